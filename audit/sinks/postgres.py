"""The PostgreSQL sink: the lines of one chain as rows, made durable a group at a time.

The session holds an advisory lock in the chain's name for the sink's life. A statement whose answer
was lost may have taken effect: nothing is appended before the old session is gone and it is known
what stands. A chain that somebody else took over meanwhile is lost to this writer for good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import asyncpg

from audit.errors import ChainLost, LedgerUnwritable
from audit.stores.postgres_link import Link, LinkLoop, RowTaken
from audit.stores.store import SealedNote

INSERT_HEAD: Final = "INSERT INTO ringfence.head (index, note, hint) VALUES ($1, $2, $3)"
_INSERT_LINES: Final = (
    "INSERT INTO ringfence.line (chain, seq, line)"
    " SELECT $1, $2 + number - 1, line FROM unnest($3::bytea[]) WITH ORDINALITY AS t(line, number)"
)
_LINES_FROM: Final = (
    "SELECT line FROM ringfence.line WHERE chain = $1 AND seq >= $2 ORDER BY seq LIMIT 1000"
)


class PostgresSink:
    """Keeps ``chain``; ``next_seq`` is the number of its next line."""

    def __init__(self, loop: LinkLoop, url: str, chain: str, next_seq: int = 0) -> None:
        """Take the chain's lock.

        Raises:
            ChainLost: another writer has the chain.
            LedgerUnwritable: no answer from the database.
        """
        self._chain = chain
        self._next_seq = next_seq
        self._doubtful: list[bytes] = []
        self._link = Link(loop, url, self._take_chain)
        self._link.connect()

    def append(self, lines: Sequence[bytes]) -> None:
        """Insert ``lines`` in one transaction; see `AuditSink`."""
        self._commit(lines, None)

    def append_sealed(self, line: bytes, sealed: SealedNote) -> None:
        """Insert the chain's last line and its checkpoint in one transaction."""
        self._commit([line], sealed)

    def landed(self) -> tuple[bytes, ...]:
        """The lines of failed appends that stand all the same; see `AuditSink`."""
        if not self._doubtful:
            return ()
        stored = tuple(self._link.run(self._stored))
        if stored not in (tuple(self._doubtful), ()):
            raise ChainLost("another writer went on with this chain")
        self._doubtful = []
        self._next_seq += len(stored)
        return stored

    def close(self) -> None:
        """Let go of the chain and its lock."""
        self._link.close()

    def _commit(self, lines: Sequence[bytes], sealed: SealedNote | None) -> None:
        if self._doubtful:
            raise LedgerUnwritable("it is not known yet what stands of the last records")

        async def insert(connection: asyncpg.Connection) -> None:
            if sealed is None:  # one statement is one transaction, and one round trip
                await connection.execute(_INSERT_LINES, self._chain, self._next_seq, list(lines))
                return
            async with connection.transaction():
                await connection.execute(_INSERT_LINES, self._chain, self._next_seq, list(lines))
                await connection.execute(INSERT_HEAD, sealed.index, sealed.note, sealed.hint)

        try:
            self._link.run(insert)
        except RowTaken:
            raise ChainLost("another writer went on with this chain") from None
        except LedgerUnwritable:
            self._doubtful = list(lines)
            raise
        self._next_seq += len(lines)

    async def _stored(self, connection: asyncpg.Connection) -> list[bytes]:
        rows = await connection.fetch(_LINES_FROM, self._chain, self._next_seq)
        return [row["line"] for row in rows]

    async def _take_chain(self, connection: asyncpg.Connection) -> None:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock_id(self._chain)):
            raise ChainLost("another writer has this chain")


def lock_id(name: str) -> int:
    """The advisory lock that goes by ``name``: 64 bits of its SHA-256."""
    digest = hashlib.sha256(f"ringfence/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
