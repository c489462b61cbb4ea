"""A local answer that its client gets while it is written, and never ahead of its pins.

What came is pinned, then given; what comes meanwhile waits for the next turn. It must never give
out a word of a pinned answer that the store does not know.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from proxy.errors import ProxyError
from proxy.local.live import LocalStream, broken
from proxy.pins.growing import GrowingPin, Pinning
from proxy.pins.store import PinStoreError
from proxy.routes.progress import Progress
from proxy.telling import StreamEnd
from proxy.types import JSONObject

#: The least time between two turns, in seconds; the first is at once.
SPACING_S: Final = 0.075

#: A turn comes no sooner than so many times what the last one took: however long an answer grows
#: and however slow the store is, one stream keeps neither busy.
_REST: Final = 4.0


class HomeStream:
    """The answer as the front door sees it; see `proxy.flowing.LiveAnswer`."""

    def __init__(
        self, stream: LocalStream, pinning: Pinning | None, ended: Callable[[StreamEnd], None]
    ) -> None:
        """``pinning``: what is pinned of it, if anything; ``ended`` is told once how it ended."""
        self._stream = stream
        self._pin = None if pinning is None else GrowingPin(pinning)
        self._tell_end: Callable[[StreamEnd], None] | None = ended
        self._progress = Progress()
        self._held: list[JSONObject] = []  # the end of the answer, until it is known to be one
        self._ready: deque[JSONObject] = deque()
        self._is_over = False
        self._broken_by: str | None = None
        self._next_at = 0.0  # in the loop's time

    def __aiter__(self) -> HomeStream:
        return self

    async def __anext__(self) -> JSONObject:
        """The next chunk.

        Raises:
            LocalBackendError: the answer broke off.
            PinStoreError: the next piece could not be pinned, so it is not given out.
        """
        try:
            while not self._ready:
                if self._broken_by is not None:
                    raise broken(self._broken_by)
                if self._is_over:
                    self._end(None)
                    raise StopAsyncIteration
                await self._turn()
        except ProxyError as fault:
            is_ours = isinstance(fault, PinStoreError)
            self._end("not_pinned" if is_ours else self._stream.error_type or "internal")
            raise
        return self._ready.popleft()

    def close(self, *, late: bool = False) -> None:
        """End it where it is; does nothing to one that is at its end."""
        self._end("timeout" if late else "client_abort")

    async def _turn(self) -> None:
        """Make what came ready to be given, pinned; the end of the answer with its whole."""
        if self._pin is not None:
            await self._pause()
        loop = asyncio.get_running_loop()
        come = await self._stream.pipe.rest()
        started = loop.time()
        given = self._heard(come)
        if not come:
            if self._pin is not None:
                await self._pin.finish()
            self._is_over, given, self._held = True, self._held, []
        elif self._pin is not None:
            await self._pin.remember()
        self._ready.extend(given)
        self._next_at = loop.time() + max(SPACING_S, _REST * (loop.time() - started))

    def _heard(self, come: list[JSONObject]) -> list[JSONObject]:
        """Take in what came; what of it may be given before the end is known."""
        given: list[JSONObject] = []
        for chunk in come:
            if self._pin is not None:
                self._pin.hear(chunk)
            self._progress.note(chunk)
            self._held.append(chunk)
            if not self._progress.has_ended:
                given += self._held
                self._held = []
        return given

    async def _pause(self) -> None:
        """Wait for the next turn, or the end of the answer."""
        wait_s = self._next_at - asyncio.get_running_loop().time()
        if wait_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stream.pipe.wait_closed()

    def _end(self, error_type: str | None) -> None:
        if self._tell_end is None:
            return
        tell, self._tell_end = self._tell_end, None
        self._broken_by = error_type
        self._ready.clear()
        self._stream.close(late=error_type == "timeout")
        self._stream.passed_on(whole=error_type is None)
        tell(StreamEnd(error_type, self._stream.progress.usage))
