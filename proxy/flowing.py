"""An answer that its client gets while it is made, as the stages hand it on.

It is no value, as all of `proxy.types` are: whoever drops it must close it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

from proxy.types import JSONObject


class LiveAnswer(Protocol):
    """The chunks of an answer, in the form of its route."""

    def __aiter__(self) -> AsyncIterator[JSONObject]:
        """The chunks; a fault of ours where it breaks off."""
        ...

    def close(self, *, late: bool = False) -> None:
        """End it where it is: nobody waits for it, or it takes too long (``late``)."""
        ...


class Pipe:
    """Chunks on their way from one writer to one reader, ``most`` of them at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[JSONObject] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._closed = asyncio.Event()
        self._fault: BaseException | None = None

    @property
    def num_waiting(self) -> int:
        """How many chunks are on their way."""
        return len(self._waiting)

    async def put(self, chunk: JSONObject) -> None:
        """Pass ``chunk`` on; waits for room."""
        while len(self._waiting) >= self._most:
            self._room.clear()
            await self._room.wait()
        self._waiting.append(chunk)
        self._news.set()

    def close(self, fault: BaseException | None) -> None:
        """Nothing more comes; ``fault`` is what the reader gets in the end."""
        self._fault = fault
        self._closed.set()
        self._news.set()

    async def wait_closed(self) -> None:
        """Return when nothing more comes."""
        await self._closed.wait()

    def __aiter__(self) -> Pipe:
        return self

    async def __anext__(self) -> JSONObject:
        if not await self._is_there():
            raise StopAsyncIteration
        self._room.set()
        return self._waiting.popleft()

    async def rest(self) -> list[JSONObject]:
        """All that is there, once something is; nothing at the end, or its fault."""
        if not await self._is_there():
            return []
        told = list(self._waiting)
        self._waiting.clear()
        self._room.set()
        return told

    async def _is_there(self) -> bool:
        """Whether a chunk is there, or else the end; raises the fault that ended it."""
        while not self._waiting:
            if self._closed.is_set():
                if self._fault is not None:
                    raise self._fault
                return False
            self._news.clear()
            await self._news.wait()
        return True
