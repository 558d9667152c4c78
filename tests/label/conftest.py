"""Both databases for every test of the label store: SQLite in a file, PostgreSQL in a cluster made on the spot."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from audiorep.label.clips import Clip, add_clips, clip_id
from audiorep.label.store import Store, open_store

RATE_HZ = 8000
NUMBER = itertools.count()


def binaries() -> Path | None:
    """Where initdb and postgres are, if anywhere."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if found := shutil.which("postgres"):
        folders.insert(0, Path(found).resolve().parent)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def somebody() -> str | None:
    """A user for the server, which refuses to be root; None: who runs the tests will do."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name for user in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Socket folder of a PostgreSQL server that is thrown away afterwards."""
    folder = binaries()
    if folder is None:
        pytest.skip("PostgreSQL is not installed: no initdb and postgres in PATH or /usr/lib/postgresql")
    place = next(place for place in ("/dev/shm", "/tmp") if os.access(place, os.W_OK))  # sockets want a short path
    home, user = Path(tempfile.mkdtemp(prefix="audiorep-pg-", dir=place)), somebody()
    if user is not None:
        shutil.chown(home, user)
    run = {"user": user, "group": None if user is None else pwd.getpwnam(user).pw_gid, "extra_groups": None}
    run = {key: value for key, value in run.items() if value is not None}
    try:
        made = subprocess.run(
            [folder / "initdb", "-D", home / "data", "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync"],
            cwd=home, capture_output=True, text=True, **run)  # fmt: skip
        assert made.returncode == 0, made.stderr
        settings = ["listen_addresses=", f"unix_socket_directories={home}", "fsync=off", "max_connections=200"]
        with (home / "log").open("wb") as log:
            server = subprocess.Popen(
                [folder / "postgres", "-D", home / "data", *itertools.chain(*(("-c", s) for s in settings))],
                cwd=home, stdout=log, stderr=log, **run)  # fmt: skip
        try:
            wait_for(home, server)
            yield str(home)
        finally:
            server.send_signal(signal.SIGQUIT)  # at once, as it is thrown away
            server.wait(30)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def wait_for(home: Path, server: subprocess.Popen[bytes]) -> None:
    """Until the server takes connections."""
    for _ in range(300):
        assert server.poll() is None, (home / "log").read_text()
        try:
            psycopg.connect(host=str(home), user="tester", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise AssertionError((home / "log").read_text())


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database, or a schema of one, with nothing in it."""
    if request.param == "sqlite":
        return str(tmp_path / "labels.sqlite")
    home, name = request.getfixturevalue("postgresql"), f"labels{next(NUMBER)}"
    with psycopg.connect(host=home, user="tester", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")  # quicker than a database
    return f"postgresql+psycopg://tester@/postgres?host={home}&options=-csearch_path%3D{name}"


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    """An empty store."""
    opened = open_store(address)
    yield opened
    opened.close()


@pytest.fixture
def clips(store: Store) -> list[str]:
    """Ids of six clips of two recordings in the store."""
    places = [(f"site/{name}.wav", 4000 * i, 4000 * (i + 1)) for name in "ab" for i in range(3)]
    return add_clips(store, [Clip(clip_id(*place), *place, RATE_HZ, group=place[0]) for place in places])
