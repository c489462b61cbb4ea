"""Keys for keyed digests, one a month: destroying a key makes its digests meaningless."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
from pathlib import Path

from audit.disk import make_folder, sync_folder
from audit.errors import LedgerUnwritable


@functools.lru_cache(maxsize=8)
def load_or_make_key(path: Path) -> bytes:
    """The 32-byte key at ``path``, made if it is not there; safe among several processes.

    It is kept in memory, as every intent needs it; a fault is not.

    Raises:
        LedgerUnwritable: it cannot be read or made, or is not 32 bytes.
    """
    key = b""
    with contextlib.suppress(OSError):
        make_folder(path.parent)
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    if len(key) != 32:
        raise LedgerUnwritable("a key cannot be read or made")
    return key


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
