"""What a local server really gives of log-probabilities, found out by asking it.

Servers refuse them beside tools or streams, take the field and drop it, or fill in zeros. The
probe's questions are fixed words of ours; it decides what to ask for, never where a request goes.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from proxy.canonical import parse_object
from proxy.errors import RequestError
from proxy.routes.logprobs import NUM_TOP, read_logprobs
from proxy.types import JSON, JSONObject


class Given(enum.StrEnum):
    """What came of asking for log-probabilities in one way."""

    YES = "yes"
    MISSING = "missing"  # taken, and none came
    CONSTANT = "constant"  # they came, and are all the same
    REFUSED = "refused"  # an error with them, an answer without
    UNABLE = "unable"  # an error either way: the server cannot do this at all
    UNKNOWN = "unknown"  # not asked yet, or no token to tell by

    @property
    def may_ask(self) -> bool:
        """Whether asking does no harm."""
        return self not in (Given.REFUSED, Given.UNABLE)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a server gives: in a plain request, beside tools, in a stream; and alternatives."""

    plain: Given
    with_tools: Given
    with_stream: Given
    gives_top: bool

    @property
    def logprobs_mean_something(self) -> bool:
        """False where the server is known to make its log-probabilities up."""
        return self.plain is not Given.CONSTANT

    @property
    def problem(self) -> str | None:
        """What keeps confidence unknown, in words; None where nothing does."""
        return {
            Given.MISSING: "sends no log-probabilities: every confidence is unknown",
            Given.CONSTANT: "sends constant log-probabilities: every confidence is unknown",
            Given.REFUSED: "refuses log-probabilities: every confidence is unknown",
            Given.UNABLE: "refuses a plain chat completion",
        }.get(self.plain)


#: Before the probe: log-probabilities are asked for, alternatives are not.
UNPROBED: Final = Abilities(Given.UNKNOWN, Given.UNKNOWN, Given.UNKNOWN, gives_top=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server sent to one probing request; status 0: nothing came."""

    status: int
    body: bytes = field(repr=False)
    media_type: str = ""


_QUESTION: Final = "Name a river, a color and a number."
_TOOL: Final[JSONObject] = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks a word up.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
    },
}

Ask = Callable[[JSONObject], Awaitable[Reply]]


async def probe_abilities(ask: Ask, model: str) -> Abilities | None:
    """Ask a server three short questions, and again more plainly where it refuses one.

    Returns:
        What it gives; None where it is down, late or failing.
    """
    plain: JSONObject = {
        "model": model,
        "messages": [{"role": "user", "content": _QUESTION}],
        "max_tokens": 8,
    }
    top: JSONObject = {"logprobs": True, "top_logprobs": NUM_TOP}
    reply = await ask({**plain, **top})
    gives_top = _has_top(reply)
    if _is_refusal(reply):
        top = {"logprobs": True}
    given = await _given(ask, plain, top)
    if given is None:
        return None
    tools = await _given(ask, {**plain, "tools": [_TOOL]}, top)
    stream = await _given(ask, {**plain, "stream": True}, top)
    return Abilities(given, tools or Given.UNKNOWN, stream or Given.UNKNOWN, gives_top)


async def _given(ask: Ask, body: JSONObject, wish: JSONObject) -> Given | None:
    """What comes of ``wish`` beside ``body``; None where nobody answers, or not now."""
    reply = await ask({**body, **wish})
    if _is_refusal(reply):
        plainly = await ask(body)
        return Given.REFUSED if plainly.status == 200 else Given.UNABLE
    if reply.status != 200:
        return None
    return _seen(list(_entries(reply.body)))


def _is_refusal(reply: Reply) -> bool:
    return reply.status in (400, 404, 415, 422, 501)


def _seen(entries: list[JSON]) -> Given:
    values = [entry.get("logprob") if isinstance(entry, dict) else None for entry in entries]
    if not values:
        return Given.MISSING
    if len(values) == 1:
        return Given.UNKNOWN
    return Given.YES if read_logprobs({"content": entries}).logprobs else Given.CONSTANT


def _has_top(reply: Reply) -> bool:
    return reply.status == 200 and bool(read_logprobs({"content": list(_entries(reply.body))}).top)


def _entries(body: bytes) -> Iterator[JSON]:
    """The token entries of a whole answer, or of all events of a stream."""
    lines = [line[5:].strip() for line in body.splitlines() if line.startswith(b"data:")]
    for part in lines or [body]:
        try:
            answer = parse_object(part)
        except RequestError:
            continue  # `[DONE]`, or no JSON: then it tells nothing
        match answer:
            case {"choices": [{"logprobs": {"content": list(entries)}}, *_]}:
                yield from entries
