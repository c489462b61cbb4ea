"""Reads sealed records out of PostgreSQL a little at a time, for the copy that goes to a SIEM."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import asyncpg

from audit.errors import LedgerUnwritable
from audit.stores.postgres_link import Link, LinkLoop

_BATCH: Final = 1000
_LINES: Final = (
    "SELECT line FROM ringfence.line WHERE chain = $1 AND seq >= $2 AND seq < $3 ORDER BY seq"
)


class PostgresSource:
    """The ledger at ``url``, by a role that may read it."""

    def __init__(self, url: str) -> None:
        self._loop = LinkLoop()
        self._link = Link(self._loop, url)

    def newest_index(self) -> int:
        """Index of the newest checkpoint, -1 where there is none."""
        statement = "SELECT coalesce(max(index), -1) FROM ringfence.head"
        return int(self._link.run(lambda connection: connection.fetchval(statement)))

    def head_note(self, index: int) -> bytes:
        """Checkpoint ``index`` as it is stored."""
        statement = "SELECT note FROM ringfence.head WHERE index = $1"
        note = self._link.run(lambda connection: connection.fetchval(statement, index))
        if note is None:
            raise LedgerUnwritable("a checkpoint is missing")
        return bytes(note)

    def lines(self, chain: str, first: int, end: int) -> Iterator[bytes]:
        """Records ``first`` to before ``end`` of a chain."""
        while first < end:
            upto = min(first + _BATCH, end)
            yield from self._link.run(partial(_fetch, chain=chain, first=first, end=upto))
            first = upto

    def close(self) -> None:
        """Let go of the connection."""
        self._link.close()
        self._loop.close()


async def _fetch(connection: asyncpg.Connection, chain: str, first: int, end: int) -> list[bytes]:
    return [row["line"] for row in await connection.fetch(_LINES, chain, first, end)]
