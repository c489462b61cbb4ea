"""Derived data stays pinned: keyed digests of the messages of pinned exchanges.

A local answer to a pinned request may tell the secret in words that no detector knows. The store
remembers a keyed digest of that answer, and of the messages it may have passed into, for a set
time; a later request that carries one of them is pinned too. It never holds text, and it is one
SQLite file, so that all server processes of a machine share it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

from proxy.errors import ProxyError
from proxy.types import Inspection, Origin, Role

T = TypeVar("T")

#: A shorter message ("yes", "thank you") carries too little to be told from everyone else's.
MIN_CHARS: Final = 16

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pins (
  digest BLOB PRIMARY KEY, decision_id TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID
"""


class PinStoreError(ProxyError):
    """The pin store cannot be read or written; the request is treated as sensitive."""

    code = "pins_unavailable"
    http_status = 503


class PinStore:
    """Remembers pinned messages by keyed digest, for ``ttl_s`` seconds."""

    def __init__(
        self, path: Path, key: bytes, ttl_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._key = key
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
        self._in_transaction(_prepare)

    async def find(self, texts: Iterable[str]) -> str | None:
        """The decision id of a pinned exchange that one of ``texts`` stems from, or None.

        Raises:
            PinStoreError: the store cannot be read.
        """
        digests = self._digests(texts)
        return await asyncio.to_thread(self._find, digests) if digests else None

    async def remember(self, texts: Iterable[str], decision_id: str) -> None:
        """Pin ``texts`` from now on; durable on return.

        Raises:
            PinStoreError: the store cannot be written.
        """
        if digests := self._digests(texts):
            await asyncio.to_thread(self._remember, digests, decision_id)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _digests(self, texts: Iterable[str]) -> list[bytes]:
        folded = (_fold(text) for text in texts)
        return [
            hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
            for text in folded
            if len(text) >= MIN_CHARS
        ]

    def _find(self, digests: list[bytes]) -> str | None:
        now = self._clock()

        def look_up(db: sqlite3.Connection) -> str | None:
            for digest in digests:
                row = db.execute(
                    "SELECT decision_id FROM pins WHERE digest = ? AND expires_at > ?",
                    (digest, now),
                ).fetchone()
                if row is not None:
                    return str(row[0])
            return None

        return self._in_transaction(look_up)

    def _remember(self, digests: list[bytes], decision_id: str) -> None:
        now = self._clock()

        def write(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM pins WHERE expires_at <= ?", (now,))
            db.executemany(
                "INSERT INTO pins VALUES (?, ?, ?) ON CONFLICT (digest) "
                "DO UPDATE SET expires_at = excluded.expires_at",
                [(digest, decision_id, now + self._ttl_s) for digest in digests],
            )

        self._in_transaction(write)

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work``, alone; sqlite's own errors may hold values, so they end here."""
        with self._lock, contextlib.suppress(sqlite3.Error), self._db:
            return work(self._db)
        raise PinStoreError("The pin store is not available.")


def pinnable_texts(inspection: Inspection) -> tuple[str, ...]:
    """The texts of a pinned request to remember: what assistants and tools said in it.

    These may tell the secret in words that no detector knows; only what was said from the first
    sensitive message on can. What users and apps wrote is inspected anew wherever it stands, and
    the harmless part of it stands in many other requests, which one pinned exchange must not pin.
    """
    sensitive = {finding.segment for finding in inspection.findings}
    sensitive |= {entry.segment for entry in inspection.unscannable}
    first = min(sensitive, default=0)
    return tuple(
        segment.text
        for segment in inspection.segments
        if segment.text is not None
        and segment.index >= first
        and segment.origin in (Origin.VALUE, Origin.EMBEDDED)
        and segment.role in (Role.ASSISTANT, Role.TOOL)
    )


def carried_texts(inspection: Inspection) -> tuple[str, ...]:
    """The texts of a new request that may stem from a pinned exchange: every text in it."""
    return tuple(segment.text for segment in inspection.segments if segment.text is not None)


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(_SCHEMA)


def _fold(text: str) -> str:
    """Case, width and white space do not make another message."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
