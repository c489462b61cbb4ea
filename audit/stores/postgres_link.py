"""Connections to the ledger's PostgreSQL, for callers that wait.

The driver lives on an event loop in a thread of its own, so that every caller, on whatever thread,
waits a bounded time and no longer. No error holds the address, a password or a line.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

import asyncpg

from audit.errors import AuditError, LedgerUnwritable

#: Longest wait for a connection, and for the answer to one statement, in seconds.
CONNECT_S: Final = 3.0
ANSWER_S: Final = 5.0

_T = TypeVar("_T")

#: The server notices a client that is gone, and gives its locks back, within half a minute.
_SESSION: Final = {
    "application_name": "ringfence-ledger",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "statement_timeout": f"{int(ANSWER_S * 1000)}",
    "idle_in_transaction_session_timeout": f"{int(ANSWER_S * 2000)}",
    "client_min_messages": "error",
}


class RowTaken(AuditError):
    """A row of that key is there already."""

    code = "row_taken"


class LinkLoop:
    """The thread that all connections of a process's ledger share."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="ledger-postgres", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
        """Run ``work`` to its end.

        Raises:
            LedgerUnwritable: it failed, or did not end within ``timeout_s``.
            RowTaken: a row of that key was there already.
        """
        done = asyncio.run_coroutine_threadsafe(work, self._loop)
        problem = ""
        try:
            return done.result(timeout_s)
        except asyncpg.UniqueViolationError:
            raise RowTaken("the row is there already") from None
        except (concurrent.futures.TimeoutError, TimeoutError, concurrent.futures.CancelledError):
            done.cancel()
            problem = "it does not answer"
        except asyncpg.PostgresError as error:  # its message can quote a row, its class cannot
            problem = f"{type(error).__name__} ({error.sqlstate})"
        except (asyncpg.InterfaceError, OSError) as error:
            problem = type(error).__name__
        raise LedgerUnwritable(f"the ledger's database: {problem}")

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_forever()


class Link:
    """One connection, made when it is first used and made anew after a fault.

    Args:
        loop: what it runs on.
        url: ``postgresql://…``; several hosts are tried for the one that can be written.
        prepare: run on each new connection before anything else; takes its locks.
    """

    def __init__(
        self,
        loop: LinkLoop,
        url: str,
        prepare: Callable[[asyncpg.Connection], Awaitable[None]] | None = None,
    ) -> None:
        self._loop = loop
        self._url = url
        self._prepare = prepare
        self._connection: asyncpg.Connection | None = None
        self._last_session: tuple[int, object] | None = None
        self._must_stay = False
        self._lock = threading.Lock()

    @property
    def is_up(self) -> bool:
        """Whether there is a connection that has not failed."""
        return self._connection is not None and not self._connection.is_closed()

    @contextlib.contextmanager
    def same_session(self) -> Iterator[None]:
        """Within it, a session that has gone is a fault: what it had locked is locked no more."""
        self._must_stay = True
        try:
            yield
        finally:
            self._must_stay = False

    def connect(self) -> None:
        """Connect, if there is no connection.

        Raises:
            LedgerUnwritable: no connection.
        """
        with self._lock:
            self._connect()

    def run(
        self, work: Callable[[asyncpg.Connection], Awaitable[_T]], timeout_s: float = ANSWER_S
    ) -> _T:
        """What ``work`` makes of the connection, which is dropped if anything goes wrong.

        Raises:
            LedgerUnwritable: it failed; whether what it wrote stands is unknown.
            RowTaken: a row of that key was there already; nothing was written.
        """
        with self._lock:
            self._connect()
            try:
                return self._loop.call(_awaited(work, self._connection), timeout_s)
            except LedgerUnwritable:
                self._drop()
                raise

    def close(self) -> None:
        """Let go of the connection and of the locks that it holds."""
        with self._lock:
            self._drop()
            self._last_session = None

    def _connect(self) -> None:
        if self.is_up:
            return
        if self._must_stay:
            raise LedgerUnwritable("the ledger's database: the session that held the lock is gone")
        self._drop()
        self._loop.call(self._open(), CONNECT_S + ANSWER_S)

    async def _open(self) -> None:
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_S,
            command_timeout=ANSWER_S,
            target_session_attrs="read-write",
            server_settings=_SESSION,
        )
        try:
            await _end_session(connection, self._last_session)
            await _demand_durability(connection)
            if self._prepare is not None:
                await self._prepare(connection)
            self._last_session = await _session(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            with contextlib.suppress(AuditError):
                self._loop.call(_closed(connection), 1.0)


async def _awaited(
    work: Callable[[asyncpg.Connection], Awaitable[_T]], connection: asyncpg.Connection | None
) -> _T:
    if connection is None:
        raise OSError
    return await work(connection)


async def _closed(connection: asyncpg.Connection) -> None:
    """End the session: politely, so that its locks are free when this returns."""
    try:
        await connection.close(timeout=0.5)
    except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        connection.terminate()


async def _demand_durability(connection: asyncpg.Connection) -> None:
    """A commit that this session is told of is on the disk: nothing less is a record."""
    if await connection.fetchval("SHOW fsync") != "on":
        raise LedgerUnwritable("the ledger's database runs with fsync off: it can lose records")
    if await connection.fetchval("SHOW synchronous_commit") != "remote_apply":
        await connection.execute("SET synchronous_commit = on")


async def _session(connection: asyncpg.Connection) -> tuple[int, object]:
    row = await connection.fetchrow(
        "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    )
    return (row["pid"], row["backend_start"])


async def _end_session(connection: asyncpg.Connection, session: tuple[int, object] | None) -> None:
    """End the session that this one takes the place of: a cut wire may have left it standing, with
    its locks, and with a statement that may still take effect.
    """
    if session is not None:
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
            " WHERE pid = $1 AND backend_start = $2",
            *session,
        )
