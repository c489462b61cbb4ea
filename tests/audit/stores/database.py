"""A real PostgreSQL for tests: a database and roles of their own, and a wire that can be cut.

Its address is in ``TEST_POSTGRES_URL``, by default the local server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from audit.stores.postgres_copy import init_postgres

SERVER = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")


def sql(url: str, statement: str, *values: object) -> list[Any]:
    """The rows of ``statement``, in a session of its own."""

    async def run() -> list[Any]:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            rows: list[Any] = await connection.fetch(statement, *values)
            return rows
        finally:
            await connection.close()

    found: list[Any] = in_thread(run)
    return found


def in_thread(run: Any) -> Any:
    """What coroutine function ``run`` gives, wherever an event loop may be running already."""
    result: list[Any] = []
    fault: list[BaseException] = []

    def work() -> None:
        try:
            result.append(asyncio.run(run()))
        except BaseException as error:  # noqa: BLE001  # raised again below
            fault.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if fault:
        raise fault[0]
    return result[0]


def with_parts(
    url: str, *, user: str | None = None, port: int | None = None, path: str = ""
) -> str:
    """``url`` with another user, port or database."""
    parts = urlsplit(url)
    login = user or parts.username or "postgres"
    place = f"{login}@{parts.hostname}:{port or parts.port or 5432}"
    return urlunsplit((parts.scheme, place, path or parts.path, parts.query, ""))


@dataclass(frozen=True)
class Database:
    """A database of its own: its owner's address, the writer's and the reader's."""

    owner: str
    writer: str
    reader: str


@contextlib.contextmanager
def a_database(server: str) -> Iterator[Database]:
    """A fresh ledger database on ``server``; gone afterwards."""
    tag = secrets.token_hex(4)
    name, writer, reader = f"ringfence_test_{tag}", f"rf_w_{tag}", f"rf_r_{tag}"
    sql(server, f"CREATE DATABASE {name}")
    owner = with_parts(server, path=f"/{name}")
    try:
        in_thread_sync(lambda: init_postgres(owner, writer, reader))
        yield Database(owner, with_parts(owner, user=writer), with_parts(owner, user=reader))
    finally:
        sql(server, f"DROP DATABASE {name} WITH (FORCE)")
        for role in (writer, reader):
            sql(server, f"DROP ROLE IF EXISTS {role}")


def in_thread_sync(work: Any) -> None:
    """Run ``work``, which runs an event loop of its own, beside one that may be running."""

    async def run() -> None:
        await asyncio.to_thread(work)

    in_thread(run)


def server_or_skip() -> str:
    """The server's address; skips where none answers."""
    try:
        sql(SERVER, "SELECT 1")
    except (OSError, asyncpg.PostgresError, TimeoutError):
        pytest.skip("no PostgreSQL answers; start one, or name it in TEST_POSTGRES_URL")
    return SERVER


class Wire:
    """A TCP wire to the server that a test can cut, or on which it can lose the answers."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = with_parts(url, port=self._listener.getsockname()[1])
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.is_cut = False
        self.lose_answers = False
        self._is_over = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """End every connection, and take no more."""
        self.is_cut = True
        self._end()

    def mend(self) -> None:
        """Let connections through again."""
        self.is_cut = self.lose_answers = False

    def close(self) -> None:
        """End all of it."""
        self._is_over = True
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._thread.join()
        self._listener.close()
        self._end()

    def _end(self) -> None:
        while self._pairs:
            for end in self._pairs.pop():
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _accept(self) -> None:
        while not self._is_over:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_cut:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._pairs.append((client, server))
            if self._is_over or self.is_cut:
                self._end()
                continue
            threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.lose_answers and source.getpeername() == self._target:
                    continue
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
