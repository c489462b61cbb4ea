"""Reads a ledger out of PostgreSQL into the form of the files, byte for byte, and sets one up.

Whatever verifies, queries and proves reads files: so there is one verifier, not two, and what it
says of the copy holds for the rows. A copy is one snapshot of the database.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import asyncpg

from audit.checkpoint import head_path
from audit.disk import make_folder
from audit.epochs import epoch_path
from audit.errors import AuditError
from audit.replay import WAL
from audit.sinks.file import SEGMENT_BYTES, SUFFIX
from audit.stores.postgres_link import CONNECT_S

_CHAIN: Final = re.compile(r"c_[0-9a-f]{28}")
_ROLE: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_BATCH: Final = 2000

_T = TypeVar("_T")


class NoDatabase(AuditError):
    """The database does not answer, or does not hold what was asked for."""

    code = "no_database"


def copy_ledger(url: str, folder: Path) -> int:
    """Copy the ledger at ``url`` into ``folder``, which must be empty; returns the records.

    Raises:
        NoDatabase: it cannot be read.
        OSError: the copy cannot be written.
    """
    return _with_connection(url, lambda connection: _copy(connection, folder))


def init_postgres(url: str, writer: str, reader: str | None) -> None:
    """Make the tables as their owner, and roles that may do no more than they must.

    Args:
        url: of the owner, who may make roles and schemas.
        writer: the role that the proxy uses; made if it is not there, without a password.
        reader: a role that may only read, for auditors.

    Raises:
        NoDatabase: it could not be done.
    """
    for role in (writer, reader or writer):
        if not _ROLE.fullmatch(role):
            raise NoDatabase("a role's name is made of small letters, digits and '_'")
    _with_connection(url, lambda connection: _init(connection, writer, reader))


def rights_over_records(url: str) -> list[str]:
    """What the role of ``url`` may do to records beyond adding them: ``update``, ``delete`` …

    Raises:
        NoDatabase: it cannot be asked, or there are no tables.
    """

    async def ask(connection: asyncpg.Connection) -> list[str]:
        statement = "SELECT has_table_privilege('ringfence.line', $1)"
        words = ("update", "delete", "truncate")
        return [word for word in words if await connection.fetchval(statement, word)]

    return _with_connection(url, ask)


def _with_connection(url: str, work: Callable[[asyncpg.Connection], Awaitable[_T]]) -> _T:
    async def run() -> _T:
        connection = await asyncpg.connect(url, timeout=CONNECT_S)
        try:
            return await work(connection)
        finally:
            await connection.close(timeout=CONNECT_S)

    problem = ""
    try:
        return asyncio.run(run())
    except asyncpg.PostgresError as error:
        problem = f"{type(error).__name__} ({error.sqlstate})"
    except (asyncpg.InterfaceError, ConnectionError, TimeoutError, ValueError) as error:
        problem = type(error).__name__
    raise NoDatabase(f"the ledger's database: {problem}")


async def _init(connection: asyncpg.Connection, writer: str, reader: str | None) -> None:
    schema = resources.files("audit.stores").joinpath("schema.sql").read_text(encoding="utf-8")
    tables = "ringfence.line, ringfence.head, ringfence.epoch, ringfence.finished"
    async with connection.transaction():
        await connection.execute(schema)
        for role in filter(None, (writer, reader)):
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                await connection.execute(f'CREATE ROLE "{role}" LOGIN')
            await connection.execute(f'GRANT USAGE ON SCHEMA ringfence TO "{role}"')
            await connection.execute(f'GRANT SELECT ON {tables} TO "{role}"')
        await connection.execute(f'GRANT INSERT ON {tables} TO "{writer}"')
        await connection.execute(f'GRANT SELECT, INSERT, DELETE ON ringfence.secret TO "{writer}"')


async def _copy(connection: asyncpg.Connection, folder: Path) -> int:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        heads = "SELECT index, note FROM ringfence.head"
        async for row in connection.cursor(heads, prefetch=_BATCH):
            _write(head_path(folder, row["index"]), row["note"])
        for row in await connection.fetch("SELECT number, note FROM ringfence.epoch"):
            _write(epoch_path(folder, row["number"]), row["note"])
        segments = _Segments(folder / WAL)
        lines = "SELECT chain, seq, line FROM ringfence.line ORDER BY chain, seq"
        async for row in connection.cursor(lines, prefetch=_BATCH):
            segments.add(row["chain"], row["seq"], row["line"])
        return segments.close()


class _Segments:
    """Writes lines, sorted by chain and number, into segments."""

    def __init__(self, wal: Path) -> None:
        make_folder(wal)
        self._wal = wal
        self._chain = ""
        self._file: BinaryIO | None = None
        self._num_records = 0

    def add(self, chain: str, seq: int, line: bytes) -> None:
        """Write a line; a new chain, or a full segment, begins a new file."""
        if self._file is None or chain != self._chain or self._file.tell() >= SEGMENT_BYTES:
            self.close()
            self._chain = chain
            path = self._wal / _folder_name(chain) / f"{seq:012d}{SUFFIX}"
            make_folder(path.parent)
            self._file = path.open("xb")
        self._file.write(line + b"\n")
        self._num_records += 1

    def close(self) -> int:
        """End the file that is written; returns the lines so far."""
        if self._file is not None:
            self._file.close()
            self._file = None
        return self._num_records


def _folder_name(chain: str) -> str:
    """A chain's name, if it is one: no row of a table names a path. `verify` says what is wrong."""
    if _CHAIN.fullmatch(chain):
        return chain
    return f"c_{hashlib.sha256(chain.encode()).hexdigest()[:28]}"


def _write(path: Path, data: bytes) -> None:
    make_folder(path.parent)
    path.write_bytes(data)
