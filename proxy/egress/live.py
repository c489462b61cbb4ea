"""An answer of the cloud that its client gets while it comes.

Between the destination and the client stand a few chunks and no more: a client that reads slowly
holds the destination back. It must never pass on an event that it could not read, nor a value that
is only half put back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final

from proxy.egress.chunks import ChunkRestorer
from proxy.egress.mask import Masked
from proxy.egress.restore import MARK
from proxy.egress.usage import usage_of
from proxy.flowing import Pipe
from proxy.routes.chat_events import wants_usage
from proxy.routes.events import BrokenStream, read_chunk
from proxy.routes.progress import Progress
from proxy.routes.route import Abroad
from proxy.routes.saying import choices_of
from proxy.types import JSONObject, Outcome, Restored

#: Chunks between the destination and the client.
MAX_WAITING: Final = 8

#: A larger event is worked on in a thread, so that others are not held up; in bytes.
_LARGE: Final = 64 * 1024

_DONE: Final = b"[DONE]"


class Departure:
    """That nobody waits for an answer any more, and why.

    Attributes:
        error_type: why, as a word for the record.
    """

    def __init__(self) -> None:
        self.error_type = "client_abort"
        self._event = asyncio.Event()

    def set(self, error_type: str = "client_abort") -> None:
        """Tell it; the first reason stands."""
        if not self._event.is_set():
            self.error_type = error_type
            self._event.set()

    def is_set(self) -> bool:
        """Whether it was told."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Return when it is told."""
        await self._event.wait()


class CloudStream:
    """The answer as the front door sees it; see `proxy.flowing.LiveAnswer`."""

    def __init__(self, pipe: Pipe, gone: Departure) -> None:
        self._pipe = pipe
        self._gone = gone

    def __aiter__(self) -> Pipe:
        """The chunks; ends in a `CloudError` where the answer broke off."""
        return self._pipe

    def close(self, *, late: bool = False) -> None:
        """End it where it is; does nothing to one that is at its end."""
        self._gone.set("timeout" if late else "client_abort")


class Incoming:
    """One answer while it comes: read, made whole, passed on, and what the record says of it.

    Attributes:
        pipe: where its chunks go.
        begun: set once there is a chunk for the client; from then on there is no other answer.
    """

    def __init__(self, call: Abroad, asked: JSONObject, masked: Masked | None) -> None:
        """``asked`` is the client's body: what it did not ask for, it does not get."""
        self.pipe = Pipe(MAX_WAITING)
        self.begun = asyncio.Event()
        self._call = call
        self._wants_usage = wants_usage(asked)
        logprobs = asked.get("logprobs")
        self._wants_logprobs = logprobs is not None and logprobs is not False and masked is None
        self._restorer = ChunkRestorer(masked.vault) if masked is not None else None
        self._payload = bytearray()
        self._head: tuple[int, str | None] = (200, None)
        self._last: JSONObject = {}  # the last chunk without what it says
        self._progress = Progress()
        self._is_done = False
        self._started = time.perf_counter()

    @property
    def payload(self) -> bytes:
        """What has come, as it came."""
        return bytes(self._payload)

    @property
    def is_whole(self) -> bool:
        """Whether it came to its end: it said so, or each choice did."""
        return self._is_done or self._progress.has_ended

    def opened(self, status: int, provider_request_id: str | None) -> None:
        """The destination began to answer."""
        self._head = (status, provider_request_id)

    def received(self, data: bytes) -> None:
        """Keep ``data`` for the digest on the record."""
        self._payload += data

    async def take(self, event: bytes) -> bool:
        """Pass an event on; whether it was the last.

        Raises:
            BrokenStream: ``garbage``, or ``upstream_error`` where it tells of one.
        """
        if event.strip() == _DONE:
            if not self.begun.is_set():
                raise BrokenStream("garbage")
            self._is_done = True
            return True
        large = len(event) > _LARGE
        for chunk in await asyncio.to_thread(self._work, event) if large else self._work(event):
            await self.pipe.put(chunk)
            self.begun.set()
        return False

    async def finish(self) -> None:
        """Pass on what was held back, at the end of a whole answer."""
        for choices in self._restorer.rests() if self._restorer is not None else ():
            await self.pipe.put({**self._last, "choices": choices})

    def outcome(self, bytes_sent: int, cut_by: str | None = None) -> Outcome:
        """What came of it; ``cut_by`` is what ended it before its end."""
        tokens_in, tokens_out = usage_of(self._progress.usage)
        status, provider_request_id = self._head
        restorer = self._restorer
        reason = next(iter(self._progress.finish.values()), None)
        return Outcome(
            status=status,
            body={"choices": [{"finish_reason": reason}]},
            model=str(self._last.get("model", "")),
            prompt_tokens=tokens_in or 0,
            completion_tokens=tokens_out or 0,
            counted=bool(tokens_in) and tokens_out is not None,
            bytes_sent=bytes_sent,
            bytes_received=len(self._payload),
            elapsed_ms=(time.perf_counter() - self._started) * 1000,
            restored=Restored()
            if restorer is None
            else Restored(restorer.num_restored, restorer.num_unknown, len(restorer.marked)),
            payload=self.payload,
            provider_request_id=provider_request_id,
            cut_by=cut_by,
        )

    def _work(self, event: bytes) -> list[JSONObject]:
        """What the client gets for ``event``.

        Raises:
            BrokenStream: as `take`.
        """
        chunk = read_chunk(event, self._call.is_chunk)
        self._note(chunk)
        return list(self._told(chunk))

    def _note(self, chunk: JSONObject) -> None:
        self._last = {name: member for name, member in chunk.items() if name in _FRAME}
        self._progress.note(chunk)

    def _told(self, chunk: JSONObject) -> Iterator[JSONObject]:
        choices = choices_of(chunk)
        if not choices and chunk.get("usage") and not self._wants_usage:
            return
        hidden = (MARK,) if self._wants_usage else (MARK, "usage")
        frame = {name: member for name, member in chunk.items() if name not in hidden}
        ends = not choices or any(one.get("finish_reason") is not None for one in choices)
        if self._restorer is None:
            yield {**frame, "choices": [self._as_asked(choice) for choice in choices]}
            return
        *before, now = self._restorer.choices(choices)
        for rest in before:
            yield {**self._last, **({"usage": None} if "usage" in frame else {}), "choices": rest}
        marked = self._restorer.marked if ends else []
        mark: JSONObject = {MARK: {"restored_tool_calls": marked}} if marked else {}
        yield {**frame, "choices": now, **mark}

    def _as_asked(self, choice: JSONObject) -> JSONObject:
        if self._wants_logprobs or choice.get("logprobs") is None:
            return choice
        return {**choice, "logprobs": None}


#: The members that are the same in every chunk of an answer. Source: OpenAI API reference.
_FRAME: Final = frozenset(
    {"id", "object", "created", "model", "system_fingerprint", "service_tier"}
)
