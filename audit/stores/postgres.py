"""The form for many replicas: a ledger in PostgreSQL, its lines and notes as in files, to the byte.

Locks are advisory locks of sessions, so that they go with whoever held them. The tables take rows
and give none up (`schema.sql`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg

from audit.errors import ChainLost, LedgerUnwritable
from audit.merkle import leaf_hash
from audit.note import BadNote
from audit.sinks.postgres import INSERT_HEAD, PostgresSink, lock_id
from audit.sinks.sink import AuditSink
from audit.stores.postgres_keys import PostgresKeys
from audit.stores.postgres_link import Link, LinkLoop, RowTaken
from audit.stores.store import KeyStore, Orphan, SealedNote

#: Longest wait for the lock that all writers share, in seconds.
LOCK_S: Final = 30.0

#: Rows that are fetched at a time.
_BATCH: Final = 2000

_LEDGER_LOCK: Final = lock_id("ledger")


class PostgresStore:
    """A ledger in the database at ``url``; the secret of its keys is in ``keys_dir``."""

    def __init__(self, url: str, keys_dir: Path) -> None:
        """Connect.

        Raises:
            LedgerUnwritable: no answer, no tables, or a secret that is not this ledger's.
        """
        self._url = url
        self._loop = LinkLoop()
        self._link = Link(self._loop, url)
        try:
            self.keys: KeyStore = PostgresKeys(self._link, keys_dir)
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that all writers share."""
        until = time.monotonic() + LOCK_S
        while not self._value("SELECT pg_try_advisory_lock($1)", _LEDGER_LOCK):
            if time.monotonic() > until:
                raise LedgerUnwritable("another writer holds the ledger's lock")
            time.sleep(0.02)
        try:
            with self._link.same_session():  # another one would not hold the lock
                yield
        finally:
            if self._link.is_up:  # where it is not, the lock went with the session
                with contextlib.suppress(LedgerUnwritable):
                    self._value("SELECT pg_advisory_unlock($1)", _LEDGER_LOCK)

    def open_chain(self, chain: str) -> AuditSink:
        """A sink for a new chain, whose lock it holds."""
        return PostgresSink(self._loop, self._url, chain)

    def newest_index(self) -> int:
        """Index of the newest checkpoint, -1 where there is none."""
        return int(self._value("SELECT coalesce(max(index), -1) FROM ringfence.head"))

    def head_note(self, index: int) -> bytes:
        """Checkpoint ``index`` as it is stored."""
        note = self._value("SELECT note FROM ringfence.head WHERE index = $1", index)
        if note is None:
            raise LedgerUnwritable("a checkpoint is missing; run `ringfence audit verify`")
        return bytes(note)

    def head_notes(self, *, newest_first: bool = False) -> Iterator[bytes]:
        """Every checkpoint, unchecked."""
        at, sign, order = (2**62, "<", "DESC") if newest_first else (-1, ">", "ASC")
        statement = (
            f"SELECT index, note FROM ringfence.head WHERE index {sign} $1"  # noqa: S608  (no value)
            f" ORDER BY index {order} LIMIT {_BATCH}"
        )
        while rows := self._rows(statement, at):
            yield from (row["note"] for row in rows)
            at = rows[-1]["index"]

    def hint(self) -> bytes:
        """The hint that was kept with the newest checkpoint."""
        statement = "SELECT hint FROM ringfence.head ORDER BY index DESC LIMIT 1"
        return bytes(self._value(statement) or b"")

    def publish_head(self, sealed: SealedNote) -> None:
        """Keep a checkpoint."""

        async def insert(connection: asyncpg.Connection) -> None:
            await connection.execute(INSERT_HEAD, sealed.index, sealed.note, sealed.hint)

        try:
            self._link.run(insert)
        except RowTaken:
            raise LedgerUnwritable("another writer made this checkpoint") from None

    def publish_end(self, chain: str, sink: AuditSink, line: bytes, sealed: SealedNote) -> None:
        """Append a chain's last line and keep its checkpoint, in one transaction."""
        if not isinstance(sink, PostgresSink):
            raise TypeError(f"{chain} stands elsewhere")
        sink.append_sealed(line, sealed)

    def epoch_notes(self) -> list[bytes]:
        """The notes that introduce the public keys, in order."""
        rows = self._rows("SELECT number, note FROM ringfence.epoch ORDER BY number")
        for number, row in enumerate(rows):
            if row["number"] != number:
                raise BadNote(f"the key of epoch {number} is missing")
        return [row["note"] for row in rows]

    def publish_epoch(self, number: int, note: bytes) -> None:
        """Keep the note that introduces a public key."""

        async def insert(connection: asyncpg.Connection) -> None:
            statement = "INSERT INTO ringfence.epoch (number, note) VALUES ($1, $2)"
            await connection.execute(statement, number, note)

        try:
            self._link.run(insert)
        except RowTaken:
            raise LedgerUnwritable("another writer introduced this key") from None

    def chain_leaves(self, chain: str) -> Sequence[bytes]:
        """The leaf hashes of a chain's records."""
        return [leaf_hash(line) for lines in self.lines(chain) for line in lines]

    def unfinished(self, own_chain: str) -> list[str]:
        """The chains, but ``own_chain``, that may want adopting."""
        rows = self._rows(
            "SELECT chain FROM ringfence.line WHERE seq = 0 AND chain <> $1 AND chain NOT IN"
            " (SELECT chain FROM ringfence.finished) ORDER BY chain",
            own_chain,
        )
        return [row["chain"] for row in rows]

    def orphan(self, chain: str) -> Orphan | None:
        """Take a chain that no session holds."""
        if not self._value("SELECT pg_try_advisory_lock($1)", lock_id(chain)):
            return None
        return PostgresOrphan(self, chain)

    def mark_finished(self, chain: str) -> None:
        """Remember that a chain is closed and sealed to its end."""

        async def insert(connection: asyncpg.Connection) -> None:
            statement = "INSERT INTO ringfence.finished VALUES ($1) ON CONFLICT DO NOTHING"
            await connection.execute(statement, chain)

        self._link.run(insert)

    def close(self) -> None:
        """Let go of the connection."""
        self._link.close()
        self._loop.close()

    def release(self, chain: str) -> None:
        """Let go of a chain that `orphan` took."""
        if self._link.is_up:
            with contextlib.suppress(LedgerUnwritable):
                self._value("SELECT pg_advisory_unlock($1)", lock_id(chain))

    def sink_after(self, chain: str, next_seq: int) -> PostgresSink:
        """A sink that appends to ``chain`` from ``next_seq`` on."""
        return PostgresSink(self._loop, self._url, chain, next_seq)

    def lines(self, chain: str) -> Iterator[list[bytes]]:
        """The lines of a chain, some thousand at a time."""
        at = -1
        statement = (
            "SELECT seq, line FROM ringfence.line WHERE chain = $1 AND seq > $2"  # noqa: S608  (no value)
            f" ORDER BY seq LIMIT {_BATCH}"
        )
        while rows := self._rows(statement, chain, at):
            yield [row["line"] for row in rows]
            at = rows[-1]["seq"]

    def _value(self, statement: str, *values: object) -> Any:
        return self._link.run(lambda connection: connection.fetchval(statement, *values))

    def _rows(self, statement: str, *values: object) -> list[asyncpg.Record]:
        return self._link.run(lambda connection: connection.fetch(statement, *values))


class PostgresOrphan:
    """A chain whose lock the store's session holds."""

    can_tear = False

    def __init__(self, store: PostgresStore, chain: str) -> None:
        self._store = store
        self._chain = chain

    def blocks(self) -> Iterator[tuple[bytes, bool]]:
        """The rows, each with a line feed, some thousand at a time; all of them are records."""
        for lines in self._store.lines(self._chain):
            yield b"".join(line + b"\n" for line in lines), False

    def sink(self, next_seq: int, good_bytes: int) -> tuple[AuditSink, int] | None:
        """Append to the chain, if its writer did not come back; nothing is ever set aside."""
        self.release()
        with contextlib.suppress(ChainLost):
            return self._store.sink_after(self._chain, next_seq), 0
        return None

    def release(self) -> None:
        """Let go of the chain."""
        self._store.release(self._chain)
