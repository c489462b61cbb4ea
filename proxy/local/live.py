"""An answer of a local endpoint that is handed on while it is written.

Between the endpoint and the reader stand a few chunks and no more: a client that reads slowly
holds the endpoint back. What is not read strictly is not handed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import httpx2

from proxy.errors import LocalBackendError
from proxy.flowing import Pipe
from proxy.local.stream import NotReadable, Reader
from proxy.routes.chat_events import wants_usage
from proxy.routes.events import BrokenStream, EventReader, read_chunk, read_object
from proxy.routes.progress import Progress
from proxy.routes.registry import ROUTES
from proxy.routes.saying import said_in
from proxy.types import Draft, JSONObject, Request

#: Chunks between the endpoint and the client: what comes while a pin is written.
MAX_WAITING: Final = 32

#: Chunks that may come before one says something, as the one that tells who speaks.
_MAX_SILENT: Final = 8

MAX_ANSWER_BYTES: Final = 32 * 2**20

_DONE: Final = b"[DONE]"
_EVENTS: Final = "text/event-stream"

#: Statuses that say "not this request"; it may be able to answer in one piece.
_REFUSED: Final = frozenset({400, 404, 413, 415, 422})

#: What ended a stream before it said anything, where an answer in one piece may still come.
_UNREADABLE: Final = frozenset({"garbage", "refused", "upstream_error"})

_SAID: Final = {
    "garbage": "sent an answer of another form",
    "status": "answered with an error",
    "timeout": "did not answer in time",
    "too_large": "sent too large an answer",
    "upstream_error": "told of an error in its answer",
}


class NotStreamed(Exception):
    """The endpoint gives no stream that can be read; the answer has to be asked for whole."""


@dataclass(frozen=True, slots=True)
class Watch:
    """When an answer may flow whose route hangs on how it ends.

    ``commits`` is asked once, about the first ``after_tokens`` tokens; an answer that ends before,
    or is not committed to, comes whole. ``saw`` is told the end of one that was committed to, None
    where it broke off. ``doomed`` gives one up, as of `WatchedBackend`.
    """

    after_tokens: int
    commits: Callable[[Draft], bool]
    saw: Callable[[Draft | None], None]
    doomed: Callable[[float], bool] | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """What an endpoint is asked, and for whom; and what its answer must show before it flows."""

    path: str
    body: bytes = field(repr=False)
    headers: dict[str, str]
    request: Request
    watch: Watch | None = None


class LocalStream:
    """The answer of one endpoint; its chunks are those of the route, as their client gets them.

    Attributes:
        pipe: the chunks; ends in a `LocalBackendError` where the answer broke off.
        progress: how far it has come.
        error_type: why it ended before its end, as a word for metrics and log.
        beginning: the tokens that were committed to, where it was watched.
    """

    def __init__(self, asking: Asking) -> None:
        self.pipe = Pipe(MAX_WAITING)
        self.progress = Progress()
        self.error_type: str | None = None
        self.beginning: Draft | None = None
        self._watch = asking.watch
        self._reader = None if asking.watch is None else Reader()
        self._piled: list[JSONObject] | None = []  # while it may be committed to
        self._flows = asking.watch is None
        self._begun = asyncio.Event()
        self._request = asking.request
        self._wants_usage = wants_usage(asking.request.body)
        abroad = ROUTES[asking.request.route].abroad
        self._is_chunk = abroad.is_chunk if abroad is not None else None
        self._task: asyncio.Task[JSONObject | Draft | None] | None = None

    @classmethod
    async def begin(
        cls, wire: httpx2.AsyncClient, asking: Asking, timeout_s: float
    ) -> LocalStream | JSONObject | Draft:
        """Ask for a stream; it is here once it says something. A whole answer is its JSON.

        One that was given up is its beginning.

        Args:
            wire: to the endpoint.
            asking: what it is asked.
            timeout_s: the longest wait for the first word.

        Raises:
            NotStreamed: it has to be asked for the whole.
            LocalBackendError: it is down, or late.
        """
        stream = cls(asking)
        task = stream._task = asyncio.create_task(stream._run(wire, asking))
        task.add_done_callback(stream._ended)
        begun = asyncio.ensure_future(stream._begun.wait())
        try:
            await asyncio.wait(
                {task, begun}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            stream.close()
            raise
        finally:
            begun.cancel()
        if stream._begun.is_set():
            return stream
        if not task.done():
            stream.close(late=True)
            raise broken("timeout")
        whole = task.result() if task.exception() is None else None
        if whole is not None:
            return whole
        fault = stream.error_type or "garbage"
        raise NotStreamed if fault in _UNREADABLE else broken(fault, "could not be reached")

    def passed_on(self, *, whole: bool) -> None:
        """Nobody reads it any more; ``whole``: it was read to its end."""
        reader, watch = self._reader, self._watch
        if watch is not None and self.beginning is not None:
            ended = whole and reader is not None and reader.finish_reason is not None
            watch.saw(reader.so_far() if ended and reader is not None else None)

    def close(self, *, late: bool = False) -> None:
        """End it where it is: the endpoint is hung up on. Does nothing to one at its end."""
        if self._task is not None and not self._task.done():
            self.error_type = self.error_type or ("timeout" if late else "client_abort")
            self._task.cancel()

    def _ended(self, task: asyncio.Task[JSONObject | Draft | None]) -> None:
        """Tell the reader of the end; no exception of a library goes on from here."""
        if not task.cancelled() and task.exception() is not None:
            self.error_type = _word_for(task.exception())
        self.pipe.close(None if self.error_type is None else broken(self.error_type))

    async def _run(self, wire: httpx2.AsyncClient, asking: Asking) -> JSONObject | Draft | None:
        """Hand the answer on; gives one that came whole, or was given up."""
        async with wire.stream(
            "POST", asking.path, content=asking.body, headers=asking.headers
        ) as response:
            if response.status_code != 200:
                refused = response.status_code in _REFUSED
                raise BrokenStream("refused" if refused else "status")
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != _EVENTS:
                return await _whole(response)
            begun = await self._pass_on(response)
        if begun is not None or self._flows or self._reader is None:
            return begun
        return self._reader.whole()

    async def _pass_on(self, response: httpx2.Response) -> Draft | None:
        """Hand on what comes; the beginning of an answer that is given up."""
        reader, num_bytes = EventReader(), 0
        async for data in response.aiter_raw():
            num_bytes += len(data)
            if num_bytes > MAX_ANSWER_BYTES:
                raise BrokenStream("too_large")
            if self._reader is not None and self._is_doomed(self._reader, data):
                return self._reader.so_far()
            for event in reader.feed(data):
                if event.strip() == _DONE:
                    if self._flows and not self._begun.is_set():
                        raise BrokenStream("garbage")
                    return None
                await self._take(event)
        if not self.progress.has_ended:
            raise BrokenStream("connection")
        return None

    def _is_doomed(self, reader: Reader, data: bytes) -> bool:
        """Look at the tokens in ``data``: commit to the answer, or not, or give it up."""
        watch, doomed = self._watch, False
        try:
            logprobs = list(reader.feed(data))
        except NotReadable:
            if not self._flows:
                raise
            self._reader = None  # it flows on, and nobody scores its end
            return False
        if watch is None or self._flows:
            return False
        for logprob in logprobs:
            if logprob is None:
                self._watch = self._piled = None  # its confidence is unknown
                return False
            doomed = doomed or (watch.doomed is not None and watch.doomed(logprob))
        if self._piled is not None and len(reader.entries) >= watch.after_tokens and not doomed:
            begun = reader.so_far(watch.after_tokens)
            if watch.commits(begun):
                self.beginning, self._flows = begun, True
            else:
                self._piled = None
        return doomed

    async def _take(self, event: bytes) -> None:
        """Hand a chunk on.

        Raises:
            BrokenStream: ``garbage``, or ``upstream_error`` where it tells of one.
        """
        chunk = read_chunk(event, self._is_chunk)
        self.progress.note(chunk)
        shown = self._shown(chunk)
        if not self._flows:
            if self._piled is not None and shown is not None:
                self._piled.append(shown)
            return
        piled, self._piled = self._piled, []
        if piled:
            self._begun.set()
        for one in (*(piled or ()), *(() if shown is None else (shown,))):
            await self.pipe.put(one)
        if self.pipe.num_waiting >= _MAX_SILENT or self.progress.has_ended:
            self._begun.set()
        if shown is not None and any(said_in(shown)):
            self._begun.set()

    def _shown(self, chunk: JSONObject) -> JSONObject | None:
        """The chunk as its client gets it, with what it asked for; None: it gets none."""
        shown = ROUTES[self._request.route].at_home.answer(chunk, self._request.body)
        if self._wants_usage:
            return shown
        if not chunk["choices"]:
            return None
        return {name: member for name, member in shown.items() if name != "usage"}


def broken(error_type: str, otherwise: str = "broke its answer off") -> LocalBackendError:
    """The fault of an answer that ended before its end."""
    return LocalBackendError(f"The local model {_SAID.get(error_type, otherwise)}.")


async def _whole(response: httpx2.Response) -> JSONObject:
    payload = bytearray()
    async for data in response.aiter_raw():
        payload += data
        if len(payload) > MAX_ANSWER_BYTES:
            raise BrokenStream("too_large")
    return read_object(bytes(payload))


def _word_for(fault: BaseException | None) -> str:
    match fault:
        case BrokenStream():
            return fault.error_type
        case NotReadable():
            return "garbage"
        case httpx2.TimeoutException():
            return "timeout"
        case httpx2.HTTPError():
            return "connection"
    return "internal"
