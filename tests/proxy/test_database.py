"""One private file for many processes: nothing is lost between them, and no error tells a value."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.database import PrivateDatabase
from proxy.errors import ProxyError
from tests.harness import ROOT

TABLE = "CREATE TABLE IF NOT EXISTS sums (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"


class GoneError(ProxyError):
    """The fault of these tests."""


def a_database(folder: Path) -> PrivateDatabase:
    return PrivateDatabase(folder / "sums.sqlite3", lambda: GoneError("gone"), TABLE)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PrivateDatabase]:
    made = a_database(tmp_path)
    yield made
    made.close()


def total(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(sum(value), 0) FROM sums").fetchone()[0])


def put(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO sums VALUES ('a', 1)")


COUNT = """
import sys
from pathlib import Path
from tests.proxy.test_database import a_database

def add(db):
    (value,) = db.execute("SELECT value FROM sums").fetchone()
    db.execute("UPDATE sums SET value = ?", (value + 1,))

for _ in range(100):
    a_database(Path(sys.argv[1])).write(add)
"""


def test_processes_that_read_and_then_write_lose_nothing(
    database: PrivateDatabase, tmp_path: Path
) -> None:
    database.write(put)
    command = [sys.executable, "-c", COUNT, str(tmp_path)]
    workers = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert database.read(total) == 301


def test_what_fails_half_way_did_not_happen(database: PrivateDatabase) -> None:
    def half(db: sqlite3.Connection) -> None:
        put(db)
        raise KeyError("canary")

    def refused(db: sqlite3.Connection) -> None:
        put(db)
        db.execute("INSERT INTO sums VALUES ('canary', NULL)")

    with pytest.raises(KeyError):
        database.write(half)
    with pytest.raises(GoneError) as caught:
        database.write(refused)
    assert database.read(total) == 0
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)
    database.write(put)
    assert database.read(total) == 1


def test_the_file_is_its_owners_alone(database: PrivateDatabase, tmp_path: Path) -> None:
    database.write(put)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]
    assert len(modes) == 3  # the file, its log, and what readers share
    assert set(modes) == {0o600}


@pytest.mark.parametrize("what", ["a file for a folder", "no database"])
def test_what_cannot_be_opened_is_the_stores_own_fault(what: str, tmp_path: Path) -> None:
    if what == "no database":
        (tmp_path / "sums.sqlite3").write_bytes(b"canary " * 1000)
        folder = tmp_path
    else:
        (tmp_path / "file").touch()
        folder = tmp_path / "file"
    with pytest.raises(GoneError) as caught:
        a_database(folder)
    assert caught.value.__context__ is None


def test_a_closed_file_is_gone(tmp_path: Path) -> None:
    made = a_database(tmp_path)
    made.close()
    with pytest.raises(GoneError):
        made.read(total)
