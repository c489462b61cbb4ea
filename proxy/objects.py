"""What the proxy keeps for its clients: encrypted, with a time limit, each key its own.

One SQLite file, shared by the server processes of a machine. A value is readable only with the key
file beside the ledger's, only under the kind, owner and id it was kept under, and only until its
time is up. It must never hold a value in the clear, or tell whether another owner's id exists.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.database import PrivateDatabase
from proxy.errors import ProxyError

#: Most that one owner may have kept of a kind.
MAX_OBJECTS: Final = 10_000
MAX_BYTES: Final = 256 * 2**20

#: NIST SP 800-38D: 96 random bits are safe for 2^32 values under one key.
_NONCE_BYTES: Final = 12

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  kind TEXT NOT NULL, owner TEXT NOT NULL, id TEXT NOT NULL, expires_at REAL NOT NULL,
  size INTEGER NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (kind, owner, id)
)
"""
_BY_EXPIRY = "CREATE INDEX IF NOT EXISTS objects_by_expiry ON objects (expires_at)"
_TO_DROP = """
DELETE FROM objects WHERE rowid IN (
  SELECT rowid FROM (
    SELECT rowid, row_number() OVER newest AS place, sum(size) OVER newest AS total
    FROM objects WHERE kind = ? AND owner = ? WINDOW newest AS (ORDER BY rowid DESC)
  ) WHERE place > ? OR total > ?
)
"""


_SEALED = "SELECT sealed FROM objects WHERE kind = ? AND owner = ? AND id = ?"


class ObjectStoreError(ProxyError):
    """The store cannot be read or written."""

    code = "objects_unavailable"
    http_status = 503


class StoreFull(ProxyError):
    """The owner has as much of this kind as may be kept."""

    code = "store_full"
    http_status = 400
    error_type = "invalid_request_error"


@dataclass(frozen=True, slots=True)
class Quota:
    """How much an owner may have of a kind.

    ``drops_oldest``: what is too much goes, the oldest first; else the new value is refused.
    """

    max_objects: int = MAX_OBJECTS
    max_bytes: int = MAX_BYTES
    drops_oldest: bool = True


_NEWEST: Final = Quota()


class ObjectStore:
    """Keeps values for ``ttl_s`` seconds, each under its kind, owner and id."""

    def __init__(
        self, path: Path, key: bytes, ttl_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._cipher = AESGCM(key)
        self._name_key = hmac.digest(key, b"ringfence objects: names", hashlib.sha256)
        self._ttl_s = ttl_s
        self._clock = clock
        opening = ("PRAGMA secure_delete=ON", _SCHEMA, _BY_EXPIRY)
        self._db = PrivateDatabase(path, _unavailable, *opening)

    @property
    def ttl_s(self) -> float:
        """How long a value is kept that asks for no time of its own."""
        return self._ttl_s

    async def put(
        self,
        kind: str,
        owner: str,
        id_: str,
        value: bytes,
        *,
        ttl_s: float | None = None,
        quota: Quota | None = _NEWEST,
    ) -> None:
        """Keep ``value``, in place of what was under its id; durable on return.

        Args:
            kind, owner, id_: where it is found again.
            value: what to keep.
            ttl_s: for how long; None: the store's own time.
            quota: how much there may be; None: whoever asks sees to that.

        Raises:
            ObjectStoreError: the store cannot be written.
            StoreFull: the owner has too much, and nothing goes for it.
        """
        await asyncio.to_thread(self._put, (kind, owner, id_), value, ttl_s, quota)

    async def claim(
        self, kind: str, owner: str, id_: str, value: bytes, ttl_s: float, quota: Quota
    ) -> bytes | None:
        """Keep ``value`` if nothing is there: None, and nobody else has it; else what is there.

        Raises:
            ObjectStoreError, StoreFull: as `put` and `get`.
        """
        place = (kind, owner, id_)
        there = await asyncio.to_thread(self._put, place, value, ttl_s, quota, only_new=True)
        return None if there is None else self._opened(there, _place(*place))

    def name_of(self, text: str) -> str:
        """A keyed digest, to keep something under a name that a client made up."""
        return hmac.digest(self._name_key, text.encode(), hashlib.sha256).hex()

    async def get(self, kind: str, owner: str, id_: str) -> bytes | None:
        """The value of this very owner, or None.

        Raises:
            ObjectStoreError: the store cannot be read, or was changed by another hand.
        """
        return await asyncio.to_thread(self._get, kind, owner, id_)

    async def delete(self, kind: str, owner: str, id_: str) -> bool:
        """Forget a value; whether there was one.

        Raises:
            ObjectStoreError: the store cannot be written.
        """
        return await asyncio.to_thread(self._delete, kind, owner, id_)

    async def all(self, kind: str, owner: str) -> list[tuple[str, bytes]]:
        """Every value of this very owner with its id, in the order of the ids.

        Raises:
            ObjectStoreError: as `get`.
        """
        return await asyncio.to_thread(self._all, kind, owner)

    async def places(self, kind: str) -> list[tuple[str, str]]:
        """Owner and id of every value of a kind, in the order of the ids.

        Raises:
            ObjectStoreError: the store cannot be read.
        """
        return await asyncio.to_thread(self._places, kind)

    async def clear(self, kind: str, owner: str) -> None:
        """Forget every value of a kind.

        Raises:
            ObjectStoreError: the store cannot be written.
        """
        statement = "DELETE FROM objects WHERE kind = ? AND owner = ?"
        await asyncio.to_thread(self._db.write, lambda db: db.execute(statement, (kind, owner)))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _put(
        self,
        place: tuple[str, str, str],
        value: bytes,
        ttl_s: float | None,
        quota: Quota | None,
        *,
        only_new: bool = False,
    ) -> bytes | None:
        """Keep ``value``; where ``only_new``, what is there (sealed) keeps its place."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, value, _place(*place))
        ends = self._clock() + (self._ttl_s if ttl_s is None else ttl_s)
        row = (*place, ends, len(sealed), sealed)

        def write(db: sqlite3.Connection) -> bytes | None:
            db.execute("DELETE FROM objects WHERE expires_at <= ?", (self._clock(),))
            if only_new and (there := db.execute(_SEALED, place).fetchone()) is not None:
                return bytes(there[0])
            db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)", row)
            if quota is not None:
                _hold_to(quota, db, place[:2])
            return None

        return self._db.write(write)

    def _get(self, kind: str, owner: str, id_: str) -> bytes | None:
        row = self._db.read(
            lambda db: db.execute(
                "SELECT sealed FROM objects "
                "WHERE kind = ? AND owner = ? AND id = ? AND expires_at > ?",
                (kind, owner, id_, self._clock()),
            ).fetchone()
        )
        return None if row is None else self._opened(row[0], _place(kind, owner, id_))

    def _all(self, kind: str, owner: str) -> list[tuple[str, bytes]]:
        rows = self._db.read(
            lambda db: db.execute(
                "SELECT id, sealed FROM objects "
                "WHERE kind = ? AND owner = ? AND expires_at > ? ORDER BY id",
                (kind, owner, self._clock()),
            ).fetchall()
        )
        return [(id_, self._opened(sealed, _place(kind, owner, id_))) for id_, sealed in rows]

    def _places(self, kind: str) -> list[tuple[str, str]]:
        return self._db.read(
            lambda db: db.execute(
                "SELECT owner, id FROM objects WHERE kind = ? AND expires_at > ? ORDER BY id",
                (kind, self._clock()),
            ).fetchall()
        )

    def _opened(self, sealed: bytes, place: bytes) -> bytes:
        with contextlib.suppress(InvalidTag):
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
        raise ObjectStoreError("What was kept cannot be read.")

    def _delete(self, kind: str, owner: str, id_: str) -> bool:
        now = self._clock()

        def write(db: sqlite3.Connection) -> bool:
            where = "kind = ? AND owner = ? AND id = ? AND expires_at > ?"
            done = db.execute(f"DELETE FROM objects WHERE {where}", (kind, owner, id_, now))  # noqa: S608  (a constant)
            return done.rowcount > 0

        return self._db.write(write)


#: A store that may not be open yet.
Store = Callable[[], ObjectStore | None]


def opened(store: Store) -> ObjectStore:
    """The store, once it is open.

    Raises:
        ProxyError: ``starting``.
    """
    there = store()
    if there is None:
        raise ProxyError("The proxy is starting.", code="starting", http_status=503)
    return there


def _hold_to(quota: Quota, db: sqlite3.Connection, whose: tuple[str, str]) -> None:
    if quota.drops_oldest:
        db.execute(_TO_DROP, (*whose, quota.max_objects, quota.max_bytes))
        return
    total = "SELECT count(*), sum(size) FROM objects WHERE kind = ? AND owner = ?"
    count, size = db.execute(total, whose).fetchone()
    if count > quota.max_objects or size > quota.max_bytes:
        raise StoreFull("There is no room for more: delete what is not needed.")


def _unavailable() -> ObjectStoreError:
    return ObjectStoreError("The store of what is kept is not available.")


def _place(kind: str, owner: str, id_: str) -> bytes:
    """What a value is bound to; the parts hold no line ends."""
    return "\n".join((kind, owner, id_)).encode()
