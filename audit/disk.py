"""Small durable file operations that the ledger's parts share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from audit.errors import LedgerUnwritable


def write_all(fd: int, data: bytes) -> None:
    """Write ``data`` to the last byte: a short write is not a success."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it, each its owner's alone and durable in the one above."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    sync_folder(folder.parent)


def publish(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Make ``path`` with ``data``, durably and all at once; it must not be there yet.

    Raises:
        OSError: it could not be made durable, or is there already.
    """
    make_folder(path.parent)
    draft = write_aside(path, data, mode=mode)
    try:
        os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_aside(path: Path, data: bytes, *, mode: int = 0o600) -> Path:
    """Write ``data`` durably beside ``path`` under a name that nothing else uses."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        write_all(fd, data)
        os.fsync(fd)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return draft


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of ``path``, all at once and durably."""
    draft = write_aside(path, data)
    try:
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder``: a lock on the folder itself, which no deleted file undoes."""
    make_folder(folder)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def take_lock(folder: Path) -> int | None:
    """Lock ``folder`` and return the descriptor that holds the lock; None if another has it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def disk_faults(what: str) -> Iterator[None]:
    """Turn an `OSError` of the block into a `LedgerUnwritable` that says ``what``."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise LedgerUnwritable(f"{what}: {reason}") from None


def set_aside(path: Path, good_bytes: int, quarantine: Path) -> int:
    """Move what ``path`` holds past ``good_bytes`` into ``quarantine``; returns the bytes moved.

    The copy may fail on a full disk; the cut is made all the same, since the lines behind it were
    refused and nobody acted on them.
    """
    tail = path.read_bytes()[good_bytes:]
    if not tail:
        return 0
    with contextlib.suppress(OSError):
        make_folder(quarantine)
        copy = quarantine / f"{path.parent.name}-{path.stem}-{good_bytes}.tail"
        with open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(tail)
            file.flush()
            os.fsync(file.fileno())
    if good_bytes == 0:
        path.unlink()
    else:
        os.truncate(path, good_bytes)
    sync_folder(path.parent)
    return len(tail)
