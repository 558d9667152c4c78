"""Opening the label store: one SQLite file, or a PostgreSQL database that many machines share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, make_url, select, update
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from audiorep.errors import AudiorepError
from audiorep.label.schema import SINCE, TABLES, VERSION, schema_version

BUSY_S = 30
"""How long a writer waits for those before it."""
CHUNK = 500
"""Values in one IN (...): SQLite takes no endless lists."""

READ = {"sqlite": "BEGIN", "postgresql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"}
WRITE = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(1635017060)"}
"""Writers of all threads, processes and machines take turns, so ids grow in the order in which answers can be seen: who
has read up to id n misses none below it."""

TURN: Mapping[str, Callable[[], AbstractContextManager[Any]]] = {"sqlite": Lock, "postgresql": nullcontext}
"""Within a process SQLite's writers queue here: its own waiting is unfair, some wait seconds; and none writes while another
moves the log into the file, which SQLite before 3.51.3 may get wrong (sqlite.org/wal.html, the WAL-reset bug)."""

FAULT = {"sqlite": "PRAGMA quick_check(1)", "postgresql": "SELECT 'ok'"}
"""Says ok, or what is damaged."""

REMEDY = {
    "sqlite": "is it an undamaged label store, on a local disk with space left, where you may write, and is it free?",
    "postgresql": "is the server running, are address, user and password right, and may the user create tables there?",
}


@dataclass(frozen=True)
class Store:
    """An open label store; threads may share it."""

    engine: Engine
    name: str  # as shown to people: without a password
    turn: AbstractContextManager[Any]  # of this process's writers, see TURN

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees the store as it is at one moment."""
        with self._begin(READ) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction of which there is only one at a time. When the block has ended it is on disk.

        Raises:
            AudiorepError: the database says no; nothing of the block is stored.
        """
        with self.turn, self._begin(WRITE) as connection:
            yield connection

    @contextmanager
    def _begin(self, first: Mapping[str, str]) -> Iterator[Connection]:
        try:
            with self.engine.begin() as connection:
                connection.exec_driver_sql(first[self.engine.dialect.name])
                yield connection
        except (DBAPIError, PoolTimeoutError, self.engine.dialect.loaded_dbapi.Error) as error:
            raise AudiorepError(f"label store {self.name}: {reason(error)}; {self.remedy}") from error

    @property
    def remedy(self) -> str:
        return REMEDY[self.engine.dialect.name]

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def open_store(address: str | Path) -> Store:
    """Open a label store, and make its tables where there are none.

    Args:
        address: a path or ``sqlite:///PATH``: SQLite, one file on a local disk (beside it, while it is open, `-wal` and
            `-shm`); or ``postgresql+psycopg://USER@HOST/DATABASE``.

    An answer is stored when the call that adds it returns: write-ahead log with ``synchronous=FULL``, or
    ``synchronous_commit`` not `off`.

    Raises:
        AudiorepError: an address of another kind, no driver, no server, no permission, a file that is no database or
            that is corrupt, tables of another program, or a store of a newer audiorep.
    """
    url = _url(address)
    name = url.database if url.drivername == "sqlite" else url.render_as_string(hide_password=True)
    try:
        engine = ENGINES[url.drivername](url)
    except ImportError as error:
        raise AudiorepError(
            f"label store {name}: the driver cannot be loaded ({error}): pip install 'audiorep[postgresql]'".replace(
                "\n", " "
            )
        ) from error
    store = Store(engine, str(name), TURN[engine.dialect.name]())
    try:
        with store.writing() as connection:
            _prepare(connection, store)
        _check(store)
    except BaseException:
        store.close()
        raise
    return store


def in_chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Pieces that fit into one IN (...)."""
    for first in range(0, len(values), CHUNK):
        yield values[first : first + CHUNK]


def reason(error: Exception) -> str:
    """What the database said, in one line."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0].rstrip(".")


def _url(address: str | Path) -> URL:
    text = str(address)
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser()))
    kind = text.split("://", 1)[0]
    forms = "a path, sqlite:///PATH, or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
    if kind not in KINDS:
        raise AudiorepError(f"label store: addresses that begin with {kind}:// are not known; say {forms}")
    try:
        url = make_url(text).set(drivername=KINDS[kind])
    except (ArgumentError, ValueError) as error:
        raise AudiorepError(f"label store: the {kind}:// address cannot be read; say {forms}") from error
    if url.drivername == "sqlite" and url.database in (None, "", ":memory:"):
        raise AudiorepError(f"label store: answers would be lost with the memory; say {forms}")
    return url


def _sqlite(url: URL) -> Engine:
    path = Path(str(url.database))
    if path.is_dir():
        raise AudiorepError(f"label store {path}: is a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudiorepError(f"label store {path}: {error.strerror or error}; {REMEDY['sqlite']}") from error
    # the driver's own BEGIN comes too late for reading before writing: READ and WRITE begin
    engine = create_engine(url, connect_args={"timeout": BUSY_S, "isolation_level": None})

    def configure(connection: Any, _: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    event.listen(engine, "connect", configure)
    return engine


def _postgresql(url: URL) -> Engine:
    engine = create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})

    def configure(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
            )
            # one that sleeps in its turn does not hold up the others for good
            cursor.execute(f"SET lock_timeout = '{BUSY_S}s'; SET idle_in_transaction_session_timeout = '{2 * BUSY_S}s'")
        connection.commit()

    event.listen(engine, "connect", configure)
    return engine


ENGINES: Mapping[str, Callable[[URL], Engine]] = {"sqlite": _sqlite, "postgresql+psycopg": _postgresql}
KINDS = {
    "sqlite": "sqlite",
    "postgresql+psycopg": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}


def _prepare(connection: Connection, store: Store) -> None:
    """Make the tables of a new store; check those of an old one, and add what came since."""
    tables = inspect(connection).get_table_names()
    if schema_version.name not in tables:
        if tables:
            raise AudiorepError(
                f"label store {store.name}: this database belongs to another program (it holds a table '{tables[0]}');"
                " name a new file, or an empty database or schema"
            )
        TABLES.create_all(connection)
        connection.execute(insert(schema_version).values(version=VERSION))
    version = connection.scalar(select(schema_version.c.version))
    if version is None or version > VERSION:
        raise AudiorepError(
            f"label store {store.name}: its tables are of version {version}, this audiorep knows up to {VERSION};"
            " install a newer audiorep"
        )
    for later in range(version + 1, VERSION + 1):
        TABLES.create_all(connection, tables=SINCE[later])
        connection.execute(update(schema_version).values(version=later))
        tables += [table.name for table in SINCE[later]]
    if tables and (missing := sorted(set(TABLES.tables) - set(tables))):
        raise AudiorepError(f"label store {store.name}: its table '{missing[0]}' is missing; restore a copy")


def _check(store: Store) -> None:
    """Look for damage before somebody answers into it."""
    with store.reading() as connection:
        fault = connection.exec_driver_sql(FAULT[store.engine.dialect.name]).scalar()
    if fault != "ok":
        raise AudiorepError(f"label store {store.name}: the file is damaged ({fault}); restore a copy")
