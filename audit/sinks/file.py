"""The append-only file sink: one folder a chain, one file a segment, mode 0600.

The folder is locked for the sink's life: the lock, not a file that can be deleted, says that a
chain has a living writer.

After a failed write or sync the segment is finished: what was written since the last durable line
is moved to quarantine, and the next append opens a new segment. A failed sync is never tried again:
the kernel may have dropped the pages, and the second call would report a success that is none.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from audit.disk import make_folder, set_aside, sync_folder, take_lock, write_all
from audit.errors import LedgerUnwritable

SUFFIX: Final = ".jsonl"

#: Bytes after which a new segment is begun, so that old ones can be packed and let go. A new day
#: (UTC) begins one too.
SEGMENT_BYTES: Final = 64 * 1024 * 1024


class FileSink:
    """Keeps one chain in ``folder``; ``next_seq`` names its next segment."""

    def __init__(self, folder: Path, quarantine: Path, next_seq: int = 0) -> None:
        """Lock ``folder``, which is made if need be.

        Raises:
            LedgerUnwritable: another writer has the chain.
            OSError: the folder cannot be made or opened.
        """
        make_folder(folder)
        self._lock = take_lock(folder)
        if self._lock is None:
            raise LedgerUnwritable("another writer has this chain")
        self._folder = folder
        self._quarantine = quarantine
        self._next_seq = next_seq
        self._fd: int | None = None
        self._path = folder
        self._good_bytes = 0
        self._day = 0
        self._must_cut = False

    def append(self, lines: Sequence[bytes]) -> None:
        """Write and sync ``lines``; see `AuditSink`."""
        data = b"".join(line + b"\n" for line in lines)
        fault: OSError | None = None
        try:
            if self._must_cut:
                self._cut()
            if self._today() != self._day:
                self._release()
            if self._fd is None:
                self._fd = self._open()
            write_all(self._fd, data)
            os.fdatasync(self._fd)
        except OSError as error:
            fault = error
        if fault is not None:
            self._give_up()
            raise LedgerUnwritable(f"the ledger cannot be written: {os.strerror(fault.errno or 0)}")
        self._good_bytes += len(data)
        self._next_seq += len(lines)
        if self._good_bytes >= SEGMENT_BYTES:
            self._release()

    def landed(self) -> tuple[bytes, ...]:
        """None: what an append refused is set aside before the next one."""
        return ()

    def close(self) -> None:
        """Let go of the chain and its lock."""
        self._release()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open(self) -> int:
        path = self._folder / f"{self._next_seq:012d}{SUFFIX}"
        if path.exists() and path.stat().st_size == 0:
            path.unlink()  # left by an open that failed before its first line
        self._path, self._good_bytes, self._day = path, 0, self._today()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            sync_folder(self._folder)
            sync_folder(self._folder.parent)
        except OSError:
            os.close(fd)
            raise
        return fd

    @staticmethod
    def _today() -> int:
        """The day (UTC) as a number."""
        return int(time.time()) // 86_400

    def _release(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with contextlib.suppress(OSError):  # its lines are synced; nothing is left to lose
                os.close(fd)

    def _give_up(self) -> None:
        """Finish the segment: what it holds past the last durable line must go, before all else."""
        self._must_cut = self._must_cut or self._fd is not None
        self._release()
        with contextlib.suppress(OSError):
            self._cut()

    def _cut(self) -> None:
        if self._must_cut and self._path.exists():
            set_aside(self._path, self._good_bytes, self._quarantine)
        self._must_cut = False
