"""A private SQLite file that the server processes of a machine share.

Only its owner can read it. SQLite's own errors may hold values, so none of them leaves: whatever
goes wrong becomes the fault that the store names.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from proxy.errors import ProxyError

T = TypeVar("T")

#: Longest wait for another process that is writing.
_BUSY_S: Final = 5.0


class PrivateDatabase:
    """One file, used by one thread of this process at a time."""

    def __init__(self, path: Path, fault: Callable[[], ProxyError], *statements: str) -> None:
        """Open ``path``, made if need be, and run ``statements``.

        Raises:
            ProxyError: ``fault()``; it cannot be opened or written.
        """
        self._fault = fault
        self._lock = threading.Lock()
        with contextlib.ExitStack() as stack, contextlib.suppress(sqlite3.Error, OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(
                path, check_same_thread=False, timeout=_BUSY_S, isolation_level=None
            )
            stack.callback(self._db.close)
            for statement in ("PRAGMA journal_mode=WAL", *statements):
                self._db.execute(statement)
            stack.pop_all()
            return
        raise fault()

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` over one state of the file, which others may go on changing.

        Raises:
            ProxyError: the store's own fault.
        """
        return self._run("BEGIN", work)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` alone: nobody writes between what it reads and what it writes.

        It is durable on return, or nothing of it happened.

        Raises:
            ProxyError: the store's own fault.
        """
        return self._run("BEGIN IMMEDIATE", work)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _run(self, begin: str, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._db.execute(begin)
            try:
                done = work(self._db)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            return done
        raise self._fault()
