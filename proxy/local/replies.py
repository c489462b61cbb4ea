"""Answers of the embedded server in OpenAI's form: whole, or as server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from proxy.ids import new_id

if TYPE_CHECKING:
    from proxy.local.engine import Generation, Piece, TokenChoice
    from proxy.local.wishes import Continuations, Wishes

_JSONObject = dict[str, object]


def completion(generations: Sequence[Generation], model: str, wishes: Wishes) -> _JSONObject:
    """``generations`` of one prompt as a chat completion."""
    choices: list[_JSONObject] = [
        {
            "index": index,
            "message": {"role": "assistant", "content": one.text, "refusal": None},
            "logprobs": _logprobs(one.tokens) if wishes.logprobs else None,
            "finish_reason": one.finish_reason,
        }
        for index, one in enumerate(generations)
    ]
    return _whole(
        "chatcmpl", "chat.completion", model, choices, _usage(generations[:1], generations)
    )


def continuation(
    generations: Sequence[Generation], model: str, wishes: Continuations
) -> _JSONObject:
    """``generations``, those of each prompt in turn, as a text completion."""
    choices: list[_JSONObject] = [
        {
            "index": index,
            "text": one.text,
            "logprobs": _old_logprobs(one.tokens) if wishes.logprobs else None,
            "finish_reason": one.finish_reason,
        }
        for index, one in enumerate(generations)
    ]
    prompts = generations[:: wishes.num_choices]
    return _whole("cmpl", "text_completion", model, choices, _usage(prompts, generations))


def _whole(
    prefix: str, kind: str, model: str, choices: Sequence[_JSONObject], usage: _JSONObject
) -> _JSONObject:
    return {
        "id": new_id(prefix),
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": usage,
    }


class Chunks:
    """The events of one streamed answer."""

    def __init__(self, model: str, wishes: Wishes) -> None:
        self._wishes = wishes
        self._head = {
            "id": new_id("chatcmpl"),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }

    def first(self) -> bytes:
        """Who speaks."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def piece(self, piece: Piece) -> bytes:
        """Text that became final, with its tokens."""
        logprobs = _logprobs(piece.tokens) if self._wishes.logprobs else None
        return self._chunk({"content": piece.text}, logprobs=logprobs)

    def last(self, generation: Generation) -> Iterator[bytes]:
        """Why it ended, what it took if the client wants to know, and the end."""
        yield self._chunk({}, finish_reason=generation.finish_reason)
        if self._wishes.stream_usage:
            yield event({**self._head, "choices": [], "usage": _usage([generation], [generation])})
        yield b"data: [DONE]\n\n"

    def _chunk(
        self,
        delta: Mapping[str, object],
        *,
        logprobs: Mapping[str, object] | None = None,
        finish_reason: str | None = None,
    ) -> bytes:
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        usage = {"usage": None} if self._wishes.stream_usage else {}
        return event({**self._head, "choices": [choice], **usage})


def event(value: Mapping[str, object]) -> bytes:
    """One server-sent event of JSON."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _usage(prompts: Sequence[Generation], answers: Sequence[Generation]) -> _JSONObject:
    """What it took: each prompt once, each answer."""
    num_prompt = sum(one.num_prompt_tokens for one in prompts)
    num_completion = sum(one.num_completion_tokens for one in answers)
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_completion,
        "total_tokens": num_prompt + num_completion,
    }


def _old_logprobs(tokens: Sequence[TokenChoice]) -> _JSONObject:
    """Log-probabilities in the form of the older completions."""
    texts = [token.data.decode("utf-8", errors="replace") for token in tokens]
    lengths = [0, *map(len, texts)]
    return {
        "tokens": texts,
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [
            {data.decode("utf-8", errors="replace"): logprob for data, logprob in token.top}
            for token in tokens
        ],
        "text_offset": [sum(lengths[: place + 1]) for place in range(len(texts))],
    }


def _logprobs(tokens: Sequence[TokenChoice]) -> _JSONObject:
    return {"content": [_token(token) for token in tokens], "refusal": None}


def _token(token: TokenChoice) -> _JSONObject:
    top = [_alternative(data, logprob) for data, logprob in token.top]
    return {**_alternative(token.data, token.logprob), "top_logprobs": top}


def _alternative(data: bytes, logprob: float) -> _JSONObject:
    """A token; where its bytes are no whole characters, ``bytes`` alone tells them exactly."""
    return {
        "token": data.decode("utf-8", errors="replace"),
        "logprob": logprob,
        "bytes": list(data),
    }
