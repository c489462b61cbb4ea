"""Private keys that all replicas share: kept in the database, encrypted under a secret outside it.

So whoever administers the database can neither sign a checkpoint nor compute a digest, and a
replica needs one file of 32 bytes that never changes.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

import asyncpg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit.errors import LedgerUnwritable
from audit.keys import KeyKept, check_is_past, load_or_make_key
from audit.stores.postgres_link import Link

#: The secret's file, in the folder of the keys: the same bytes on every replica.
SECRET_NAME: Final = "ledger.kek"  # noqa: S105  # a file's name

_NONCE_BYTES: Final = 12  # AES-GCM, NIST SP 800-38D, section 5.2.1.1
_SELECT: Final = "SELECT sealed FROM ringfence.secret WHERE name = $1"
_INSERT: Final = (
    "INSERT INTO ringfence.secret (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING"
)


class PostgresKeys:
    """The keys in table ``secret``."""

    def __init__(self, link: Link, keys_dir: Path) -> None:
        """Read the secret; make it if the ledger has no keys yet.

        Raises:
            LedgerUnwritable: the ledger has keys, and its secret is not in ``keys_dir``.
        """
        self._link = link
        self._known: dict[str, bytes] = {}
        file = keys_dir / SECRET_NAME
        a_key = link.run(_any_name)
        if a_key is not None and not file.exists():
            raise LedgerUnwritable(
                f"the ledger's secret is missing: copy {SECRET_NAME} from another replica"
            )
        self._cipher = AESGCM(file.read_bytes() if file.exists() else load_or_make_key(file))
        if a_key is not None:
            self.load(a_key)

    def load(self, name: str) -> bytes | None:
        """The key, None where there is none."""
        if name in self._known:
            return self._known[name]
        sealed = self._link.run(lambda connection: _sealed(connection, name))
        if sealed is None:
            return None
        self._known[name] = self._open(name, sealed)
        return self._known[name]

    def load_or_make(self, name: str) -> bytes:
        """The key, made if it is not there; whoever comes second takes the first one's key."""
        if (known := self.load(name)) is not None:
            return known
        if self._link.run(lambda connection: _sealed(connection, _grave(name))) is not None:
            raise LedgerUnwritable("this month's digest key was destroyed; is the clock right?")
        sealed = self._seal(name, secrets.token_bytes(32))

        async def make(connection: asyncpg.Connection) -> None:
            await connection.execute(_INSERT, name, sealed)

        self._link.run(make)
        key = self.load(name)
        if key is None:
            raise LedgerUnwritable("a key cannot be made")
        return key

    def put(self, name: str, key: bytes) -> None:
        """Keep ``key`` in the place of what had the name."""
        sealed = self._seal(name, key)

        async def put(connection: asyncpg.Connection) -> None:
            async with connection.transaction():
                await connection.execute("DELETE FROM ringfence.secret WHERE name = $1", name)
                await connection.execute(_INSERT, name, sealed)

        self._link.run(put)
        self._known[name] = key

    def erase_before(self, prefix: str, name: str) -> None:
        """Erase the keys of ``prefix`` whose names sort before ``name``."""

        async def erase(connection: asyncpg.Connection) -> None:
            await connection.execute(
                "DELETE FROM ringfence.secret WHERE starts_with(name, $1)"
                ' AND name < $2 COLLATE "C"',
                prefix,
                name,
            )

        self._link.run(erase)
        for known in [one for one in self._known if one.startswith(prefix) and one < name]:
            del self._known[known]

    def destroy(self, name: str) -> None:
        """Destroy a digest key; a row in its place keeps its name from being used again."""
        check_is_past(name)
        key, grave = f"{name}.key", _grave(f"{name}.key")
        mark = self._seal(grave, secrets.token_bytes(32))  # holds nothing, and opens like a key

        async def destroy(connection: asyncpg.Connection) -> bool:
            async with connection.transaction():
                if not (await _sealed(connection, key) or await _sealed(connection, grave)):
                    return False
                await connection.execute(_INSERT, grave, mark)
                await connection.execute("DELETE FROM ringfence.secret WHERE name = $1", key)
                return True

        if not self._link.run(destroy):
            raise KeyKept("there is no such key")
        self._known.pop(key, None)

    def _seal(self, name: str, key: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, key, name.encode())

    def _open(self, name: str, sealed: bytes) -> bytes:
        key = None
        try:
            key = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            key = b""
        if len(key) != 32:
            raise LedgerUnwritable(
                f"{SECRET_NAME} is not the secret of this ledger: copy it from another replica"
            )
        return key


def _grave(name: str) -> str:
    """The row that stands where a key was destroyed."""
    return f"{name.removesuffix('.key')}.destroyed"


async def _sealed(connection: asyncpg.Connection, name: str) -> bytes | None:
    sealed: bytes | None = await connection.fetchval(_SELECT, name)
    return sealed


async def _any_name(connection: asyncpg.Connection) -> str | None:
    name: str | None = await connection.fetchval("SELECT max(name) FROM ringfence.secret")
    return name
