"""A chat completion that is read while it is written, event by event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from proxy.canonical import parse_object
from proxy.errors import RequestError
from proxy.routes.logprobs import read_logprob, read_logprobs
from proxy.types import JSON, Draft, JSONObject


class NotReadable(Exception):
    """The stream is of a form that cannot be put together; the answer has to be asked for whole."""


@dataclass(slots=True)
class Reader:
    """What of an answer has come so far."""

    head: JSONObject = field(default_factory=dict)
    texts: list[str] = field(default_factory=list, repr=False)
    refusals: list[str] = field(default_factory=list, repr=False)
    entries: list[JSON] = field(default_factory=list, repr=False)
    finish_reason: str | None = None
    usage: JSON = None
    _rest: bytes = field(default=b"", repr=False)

    def feed(self, data: bytes) -> Iterator[float | None]:
        """Take in bytes; gives the log-probability of each new token, None where it has none.

        Raises:
            NotReadable: the stream holds more than one answer, a tool call, or no OpenAI events.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            text = line.strip()
            if text.startswith(b"data:") and (event := text[5:].strip()) != b"[DONE]":
                yield from self._event(event)

    def so_far(self, num_tokens: int | None = None) -> Draft:
        """A draft to be scored and never to be shown: of its first tokens, or of all so far."""
        text = "".join(self.texts)
        told = read_logprobs({"content": self.entries}, text)
        if told.logprobs and num_tokens is not None:
            told = read_logprobs({"content": self.entries[:num_tokens]})
        return Draft(
            text=text,
            tokens=told.tokens,
            token_logprobs=told.logprobs,
            finish_reason=self.finish_reason or "cut",
            model=str(self.head.get("model")),
            body={},
            prompt_tokens=0,
            completion_tokens=len(self.entries),
            elapsed_ms=0.0,
            top_logprobs=told.top,
        )

    def whole(self) -> JSONObject:
        """The answer as it would have come in one piece.

        Raises:
            NotReadable: it is not finished.
        """
        if self.finish_reason is None:
            raise NotReadable
        message: JSONObject = {
            "role": "assistant",
            "content": "".join(self.texts),
            "refusal": "".join(self.refusals) or None,
        }
        choice: JSONObject = {
            "index": 0,
            "message": message,
            "logprobs": {"content": self.entries, "refusal": None} if self.entries else None,
            "finish_reason": self.finish_reason,
        }
        return {**self.head, "object": "chat.completion", "choices": [choice], "usage": self.usage}

    def _event(self, data: bytes) -> Iterator[float | None]:
        try:
            event = parse_object(data)
        except RequestError:
            raise NotReadable from None
        self.usage = event.get("usage") or self.usage
        choices = event.get("choices")
        if not isinstance(choices, list) or len(choices) > 1:
            raise NotReadable
        self.head = self.head or {
            name: event[name] for name in ("id", "created", "model") if name in event
        }
        for choice in choices:
            yield from self._choice(choice)

    def _choice(self, choice: JSON) -> Iterator[float | None]:
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(delta, dict) or choice.get("index") != 0:
            raise NotReadable
        told = {name: value for name, value in delta.items() if value not in (None, "", [])}
        if not {"role", "content", "refusal"}.issuperset(told):
            raise NotReadable
        self.texts.append(str(told.get("content", "")))
        self.refusals.append(str(told.get("refusal", "")))
        if (reason := choice.get("finish_reason")) is not None:
            self.finish_reason = str(reason)
        logprobs = choice.get("logprobs")
        content = logprobs.get("content") if isinstance(logprobs, dict) else None
        for entry in content if isinstance(content, list) else ():
            self.entries.append(entry)
            yield read_logprob(entry)
