"""Opening a store: both databases, and every way in which an address can be wrong, in one clear line."""

import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from audiorep.errors import AudiorepError
from audiorep.label.answer import Answer
from audiorep.label.clips import get_clips
from audiorep.label.journal import add_answer, answers_since
from audiorep.label.points import add_point, all_points
from audiorep.label.progress import Figures
from audiorep.label.schema import VERSION
from audiorep.label.store import Store, open_store


def refusal(address: str | Path) -> str:
    """What is said about an address."""
    with pytest.raises(AudiorepError) as told:
        open_store(address)
    assert "\n" not in str(told.value)
    return str(told.value)


def run(store: Store, statement: str) -> None:
    with store.writing() as connection:
        connection.execute(text(statement))


def test_what_is_in_a_store_is_there_when_it_is_opened_again(address, store, clips):
    answer = add_answer(store, Answer("k", clips[0], "ann", labels={"owl": True, "wren": False}, comment="läuft\n🦉"))
    again = open_store(address)
    assert answers_since(again) == [answer]
    assert list(get_clips(again)) == sorted(clips)
    again.close()


def test_sqlite_by_path_and_by_url_is_the_same_and_its_writes_are_synchronous(tmp_path):
    path = tmp_path / "new" / "labels.sqlite"
    for address in (path, f"sqlite:///{path}"):
        store = open_store(address)
        with store.reading() as connection:
            said = [connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous")]
            assert said == ["wal", 2]  # 2: FULL
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30000
        store.close()
    assert path.exists()


def test_postgresql_commits_are_synchronous_even_where_the_server_would_not(postgresql):
    with psycopg.connect(host=postgresql, user="tester", dbname="postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE lazy")
        connection.execute("ALTER DATABASE lazy SET synchronous_commit = off")
    store = open_store(f"postgresql://tester@/lazy?host={postgresql}")
    with store.reading() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    store.close()


def test_a_store_of_a_newer_audiorep_is_refused(address, store):
    run(store, f"UPDATE schema_version SET version = {VERSION + 1}")
    assert f"version {VERSION + 1}, this audiorep knows up to {VERSION}" in refusal(address)


def test_a_store_of_the_first_version_gets_what_came_since_and_keeps_its_answers(address, store, clips):
    answer = add_answer(store, Answer("k", clips[0], "ann", labels={"owl": True}))
    run(store, "DROP TABLE points")
    run(store, "UPDATE schema_version SET version = 1")
    again = open_store(address)
    assert answers_since(again) == [answer] and all_points(again) == ([], 0)
    add_point(again, answer.id, Figures(1, None, 0.5, None))
    again.close()
    again = open_store(address)
    assert all_points(again) == ([Figures(1, None, 0.5, None)], answer.id)
    again.close()


def test_a_store_that_has_lost_a_table_is_refused(address, store):
    run(store, "DROP TABLE query_clips")
    assert "its table 'query_clips' is missing" in refusal(address)


def test_tables_of_another_program_are_left_alone(address, store):
    run(store, "DROP TABLE schema_version")
    assert "belongs to another program" in refusal(address)


def test_answers_can_be_neither_changed_nor_deleted(store, clips):
    answer = add_answer(store, Answer("k", clips[0], "ann", labels={"owl": True}))
    for statement in ("DELETE FROM answers", "UPDATE answers SET comment = 'x'"):
        with pytest.raises(AudiorepError, match="answers are only ever added"):
            run(store, statement)
    assert answers_since(store) == [answer]


def test_several_processes_may_make_a_store_at_once(address):
    code = "import sys; from audiorep.label.store import open_store; open_store(sys.argv[1]).close()"
    made = [subprocess.Popen([sys.executable, "-c", code, address], stderr=subprocess.PIPE) for _ in range(2)]
    assert [(process.communicate()[1], process.returncode) for process in made] == [(b"", 0)] * 2


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes\n" * 100)
    assert "file is not a database; is it an undamaged label store" in refusal(path)
    assert path.read_text().startswith("these are my notes")


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "labels.sqlite"
    open_store(path).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    assert "malformed" in (told := refusal(path)) or "damaged" in told
    path.write_bytes(whole[: len(whole) // 2])
    assert "malformed" in (told := refusal(path)) or "damaged" in told


def test_a_database_of_another_program_is_refused_and_stays_as_it_was(tmp_path):
    path = tmp_path / "hoplite.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE windows (id INTEGER)")
    assert "belongs to another program (it holds a table 'windows')" in refusal(path)
    with sqlite3.connect(path) as other:
        assert [row[0] for row in other.execute("SELECT name FROM sqlite_master")] == ["windows"]


def test_a_folder_and_a_path_below_a_file_are_refused(tmp_path):
    assert "is a folder; name a file in it" in refusal(tmp_path)
    (tmp_path / "file").touch()
    assert "Not a directory" in (told := refusal(tmp_path / "file" / "labels.sqlite")) or "File exists" in told


def test_where_one_may_not_write_it_is_said(tmp_path):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder, store = Path(name), open_store(Path(name) / "old.sqlite")
        store.close()
        (folder / "old.sqlite").chmod(0o444)
        folder.chmod(0o555)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may write everywhere
            assert "unable to open database file; is it" in refusal(folder / "labels.sqlite")
            assert "Permission denied; is it" in refusal(folder / "deeper" / "labels.sqlite")
            assert "where you may write" in refusal(folder / "old.sqlite")
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("mysql://root@localhost/labels", "begin with mysql:// are not known; say a path, sqlite:///PATH, or postgresql"),
        ("sqlite://", "would be lost with the memory"),
        ("sqlite:///:memory:", "would be lost with the memory"),
        ("postgresql+psycopg://ann:secret@host:port/labels", "the postgresql+psycopg:// address cannot be read"),
        ("postgresql+psycopg://ann:secret@127.0.0.1:1/labels", "Connection refused; is the server running"),
    ],
)  # fmt: skip
def test_an_address_that_leads_nowhere_is_refused_without_its_password(address, told):
    said = refusal(address)
    assert told in said
    assert "secret" not in said


def test_a_database_that_is_not_there_is_named(postgresql):
    told = refusal(f"postgresql+psycopg://tester@/nothing?host={postgresql}")
    assert 'database "nothing" does not exist' in told


def test_a_driver_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "pip install 'audiorep[postgresql]'" in refusal("postgresql+psycopg://ann@localhost/labels")
