"""What a client wishes of the embedded model; what it cannot do is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.errors import RequestError
from proxy.types import JSON, JSONObject

#: What the model cannot do, or asks for what is so anyway: the values that are fine. A name that is
#: neither here nor read below (`user`, `metadata`, an app's own) changes nothing about an answer.
REFUSED: Final[Mapping[str, tuple[JSON, ...]]] = {
    "tools": ([], None),
    "tool_choice": ("none", "auto", None),
    "functions": ([], None),
    "function_call": ("none", "auto", None),
    "logit_bias": ({}, None),
    "presence_penalty": (0, None),
    "frequency_penalty": (0, None),
    "response_format": ({"type": "text"}, None),
    "modalities": (["text"], None),
    "audio": (None,),
    "web_search_options": (None,),
    "parallel_tool_calls": (True, False, None),
    "reasoning_effort": (None, "none", "minimal", "low"),
    "verbosity": (None, "medium"),
    # Of other servers (vLLM, SGLang), which clients send along.
    "guided_json": (None,),
    "guided_regex": (None,),
    "guided_choice": (None,),
    "guided_grammar": (None,),
    "structured_outputs": (None,),
    "repetition_penalty": (1, None),
    "top_k": (-1, 0, None),
    "min_p": (0, None),
    "min_tokens": (0, None),
    "best_of": (1, None),
    "echo": (False, None),
    "use_beam_search": (False, None),
    "suffix": (None,),
}

_MAX_STOPS: Final = 4

#: Answers of one request.
_MAX_CHOICES: Final = 16


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens. ``temperature`` 0, the default here, takes the likeliest: what a small
    model says by chance is worse than what it says first.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = field(default=(), repr=False)
    num_top: int = 0


@dataclass(frozen=True, slots=True)
class Wishes:
    """A request the model can serve."""

    messages: tuple[tuple[str, str], ...] = field(repr=False)
    sampling: Sampling
    logprobs: bool
    stream: bool
    stream_usage: bool
    num_choices: int = 1


@dataclass(frozen=True, slots=True)
class Continuations:
    """A request of the older form that the model can serve: prompts to carry on."""

    prompts: tuple[str, ...] = field(repr=False)
    sampling: Sampling
    logprobs: bool
    num_choices: int


def nth(sampling: Sampling, which: int) -> Sampling:
    """The sampling of the ``which``-th answer: a seed gives each one a seed of its own."""
    return sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + which)


def read_wishes(body: JSONObject) -> Wishes:
    """The wishes in ``body``.

    Raises:
        RequestError: ``unsupported_parameter`` for what the model cannot do, ``invalid_value`` for
            what it cannot be meant; ``param`` names it.
    """
    _refuse(body)
    logprobs, num_top = _flag(body, "logprobs"), _integer(body, "top_logprobs", 0, 20)
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise _invalid("stream_options", "is an object")
    stream, num_choices = _flag(body, "stream"), _integer(body, "n", 1, _MAX_CHOICES) or 1
    if stream and num_choices > 1:
        raise unsupported("n")
    return Wishes(
        messages=_messages(body.get("messages")),
        sampling=_sampling(body, num_top if logprobs else None),
        logprobs=logprobs,
        stream=stream,
        stream_usage=_flag(options or {}, "include_usage"),
        num_choices=num_choices,
    )


def read_continuations(body: JSONObject) -> Continuations:
    """The wishes of the older form in ``body``.

    Raises:
        RequestError: as for `read_wishes`.
    """
    _refuse(body)
    if _flag(body, "stream"):
        raise unsupported("stream")
    prompt = body.get("prompt")
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, list) or not 1 <= len(prompts) <= _MAX_CHOICES:
        raise _invalid("prompt", f"is a text, or up to {_MAX_CHOICES}")
    if not all(isinstance(one, str) for one in prompts):
        raise unsupported("prompt")  # token ids of another model's vocabulary
    num_top = _integer(body, "logprobs", 0, 20)
    given = body if body.get("max_tokens") is not None else {**body, "max_tokens": 16}
    return Continuations(
        prompts=tuple(str(one) for one in prompts),
        sampling=_sampling(given, num_top),
        logprobs=num_top is not None,
        num_choices=_integer(body, "n", 1, _MAX_CHOICES) or 1,
    )


def _refuse(body: JSONObject) -> None:
    for name, value in body.items():
        if name in REFUSED and not _is_fine(value, REFUSED[name]):
            raise unsupported(name)


def _sampling(body: JSONObject, num_top: int | None) -> Sampling:
    longest = next(
        (name for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None),
        None,
    )
    return Sampling(
        max_tokens=_integer(body, longest, 1, 1_000_000) if longest else None,
        temperature=_number(body, "temperature", 0, 2, 0),
        top_p=_number(body, "top_p", 0, 1, 1),
        seed=_integer(body, "seed", -(2**53), 2**53),
        stop=_stops(body.get("stop")),
        num_top=num_top or 0,
    )


def _messages(value: JSON) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise _invalid("messages", "is a list, and not empty")
    return tuple(_message(message) for message in value)


def _message(message: JSON) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise _invalid("messages", "is a list of objects")
    role = message.get("role")
    role = "system" if role == "developer" else role
    calls = message.get("tool_calls") or message.get("function_call")
    if role not in ("system", "user", "assistant") or calls:
        raise unsupported("messages")
    return str(role), _text(message.get("content"))


def _text(content: JSON) -> str:
    """Text of a message: a string, or parts that are all text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for part in content if isinstance(content, list) else [None]:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise unsupported("messages")
        texts.append(text)
    return "\n".join(texts)


def _stops(value: JSON) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > _MAX_STOPS:
        raise _invalid("stop", "is a string, or up to four")
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise _invalid("stop", "is a string, or up to four")
    return tuple(str(stop) for stop in stops)


def _number(body: JSONObject, name: str, low: float, high: float, default: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _invalid(name, "is out of range")
    return value


def _integer(body: JSONObject, name: str, low: int, high: int) -> int | None:
    if body.get(name) is None:
        return None
    value = _number(body, name, low, high, low)
    if value != int(value):
        raise _invalid(name, "is a whole number")
    return int(value)


def _flag(body: JSONObject, name: str) -> bool:
    value = body.get(name)
    if value not in (None, True, False) or (isinstance(value, int) and not isinstance(value, bool)):
        raise _invalid(name, "is true or false")
    return value is True


def _is_fine(value: JSON, fine: tuple[JSON, ...]) -> bool:
    """Whether ``value`` is one of ``fine``; true is not 1 here."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in fine)


def _invalid(name: str, what: str) -> RequestError:
    return RequestError(f"{name} {what}.", code="invalid_value", param=name)


def unsupported(name: str) -> RequestError:
    """The refusal of what the embedded models cannot do, by name."""
    return RequestError(
        f"The local model does not support this use of {name}.",
        code="unsupported_parameter",
        param=name,
    )
