"""Keys for keyed digests, one a month: destroying a key makes its digests meaningless."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from audit.disk import make_folder, replace_file, sync_folder
from audit.errors import AuditError, LedgerUnwritable

_PERIOD: Final = re.compile(r"hk-\d{4}-(0[1-9]|1[0-2])", re.ASCII)


class KeyKept(AuditError):
    """A digest key is not destroyed: there is none, or it is in use."""

    code = "key_kept"


def present_key_name() -> str:
    """Name of the digest key of the present month (UTC)."""
    return f"hk-{datetime.now(UTC):%Y-%m}"


class FolderKeys:
    """The private keys of one machine: files of mode 0600 in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, name: str) -> bytes | None:
        """The key, None where there is none that can be read."""
        with contextlib.suppress(OSError):
            return (self._folder / name).read_bytes()
        return None

    def load_or_make(self, name: str) -> bytes:
        """The key, made if it is not there; see `load_or_make_key`."""
        return load_or_make_key(self._folder / name)

    def put(self, name: str, key: bytes) -> None:
        """Keep ``key``, durably, in the place of what had the name."""
        make_folder(self._folder)
        replace_file(self._folder / name, key)

    def erase_before(self, prefix: str, name: str) -> None:
        """Erase the keys of ``prefix`` whose names sort before ``name``."""
        for path in self._folder.glob(f"{prefix}*"):
            if path.name < name:
                path.unlink(missing_ok=True)

    def destroy(self, name: str) -> None:
        """Destroy a digest key; see `destroy_key`."""
        destroy_key(self._folder, name)


@functools.lru_cache(maxsize=8)
def load_or_make_key(path: Path) -> bytes:
    """The 32-byte key at ``path``, made if it is not there; safe among several processes.

    It is kept in memory, as every intent needs it; a fault is not.

    Raises:
        LedgerUnwritable: it cannot be read or made, is not 32 bytes, or was destroyed.
    """
    key = b""
    if _grave(path).exists():  # a clock set back must not give an old name to a new key
        raise LedgerUnwritable("the digest key of this month was destroyed; is the clock right?")
    with contextlib.suppress(OSError):
        make_folder(path.parent)
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    if len(key) != 32:
        raise LedgerUnwritable("a key cannot be read or made")
    return key


def destroy_key(keys_dir: Path, name: str) -> None:
    """Destroy the digest key ``name``: its digests mean nothing to anyone from now on.

    It may be called again, for instance after the record of it could not be written. What the disk
    or a backup still holds of the file is beyond its reach.

    Raises:
        KeyKept: it is no key of a past month, or there never was one.
        OSError: it could not be destroyed.
    """
    path = keys_dir / f"{name}.key"
    check_is_past(name)
    if not path.exists() and not _grave(path).exists():
        raise KeyKept("there is no such key")
    replace_file(_grave(path), b"")
    with contextlib.suppress(FileNotFoundError):
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    sync_folder(keys_dir)
    load_or_make_key.cache_clear()


def check_is_past(name: str) -> None:
    """Refuse what is not the name of a past month's digest key.

    Raises:
        KeyKept: it is not.
    """
    if not _PERIOD.fullmatch(name) or name >= present_key_name():
        raise KeyKept("only a key of a past month is destroyed, as in hk-2026-01")


def _grave(path: Path) -> Path:
    """Stands where a key was destroyed, so that none is made anew under its name."""
    return path.with_suffix(".destroyed")


def _make(path: Path) -> None:
    """Write the key aside and link it in place: whoever comes second keeps the first one's key."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
