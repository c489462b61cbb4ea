"""Token log-probabilities in OpenAI's form: read with distrust, and cut to what a client asked for.

What cannot be trusted is left out whole: a draft without log-probabilities has an unknown
confidence, never a high one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.types import JSON, JSONObject

#: Likeliest alternatives asked for at each token: what margins and entropies need, and what every
#: known server gives (OpenAI and vLLM cap at 20).
NUM_TOP: Final = 5

#: How far above 0 a log-probability may be by rounding alone.
_ROUNDING: Final = 1e-6

#: Most that the probabilities of alternatives may come to; above 1 by what servers round.
_MOST_MASS: Final = 1.01

#: Characters that a token may stand for at least, however few the server shows of it: parts of
#: characters, ids, names of its own.
_CHARS_A_TOKEN: Final = 12


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Tokens of an answer, shape ``(num_tokens,)`` each; ``top`` is empty, or as long.

    ``top[i]`` holds the likeliest tokens at ``i`` with their log-probabilities, best first.
    """

    tokens: tuple[str, ...] = field(default=(), repr=False)
    logprobs: tuple[float, ...] = ()
    top: tuple[tuple[tuple[str, float], ...], ...] = field(default=(), repr=False)


def read_logprobs(value: JSON, text: JSON = "") -> TokenLogprobs:
    """The ``logprobs`` member of a choice; none at all where any of them is not to be trusted.

    Nor where the tokens are too few to spell ``text``: a list that broke off tells nothing of the
    rest.
    """
    content = value.get("content") if isinstance(value, dict) else None
    tokens: list[str] = []
    logprobs: list[float] = []
    top: list[tuple[tuple[str, float], ...]] = []
    for entry in content if isinstance(content, list) else ():
        read = _entry(entry)
        if read is None:
            return TokenLogprobs()
        tokens.append(read[0])
        logprobs.append(read[1])
        top.append(_alternatives(entry))
    length = len(text.strip()) if isinstance(text, str) else 0
    spelled = sum(max(len(token), _CHARS_A_TOKEN) for token in tokens)
    if not is_evidence(logprobs) or spelled < length:
        return TokenLogprobs()
    return TokenLogprobs(tuple(tokens), tuple(logprobs), tuple(top) if all(top) else ())


def is_evidence(logprobs: Sequence[float]) -> bool:
    """Whether log-probabilities, shape ``(num_tokens,)``, say anything about an answer.

    Not where there are none, where one is no log-probability, or where several are all the same: a
    server that takes ``logprobs`` and fills in zeros, or any constant, would look certain. One
    token alone cannot show that; `proxy.local.probe` asks for several.
    """
    if not logprobs or any(not math.isfinite(p) or p > _ROUNDING for p in logprobs):
        return False
    return len(logprobs) == 1 or len(set(logprobs)) > 1


def as_asked(draft_body: JSONObject, request_body: JSONObject) -> JSONObject:
    """The answer with as many log-probabilities as the client asked for, whatever we asked for."""
    wished = request_body.get("logprobs") is True
    num_top = request_body.get("top_logprobs")
    keep = num_top if isinstance(num_top, int) else 0
    choices = draft_body.get("choices")
    cut = [
        {**choice, "logprobs": _cut(choice.get("logprobs"), keep) if wished else None}
        if isinstance(choice, dict)
        else choice
        for choice in (choices if isinstance(choices, list) else ())
    ]
    return {**draft_body, "choices": cut}


def read_logprob(entry: JSON) -> float | None:
    """The log-probability of one token; None where it is not to be trusted."""
    read = _entry(entry)
    return None if read is None else read[1]


def _entry(entry: JSON) -> tuple[str, float] | None:
    logprob = entry.get("logprob") if isinstance(entry, dict) else None
    if isinstance(logprob, bool) or not isinstance(logprob, int | float):
        return None
    if not math.isfinite(logprob) or logprob > _ROUNDING:
        return None
    return str(entry.get("token")) if isinstance(entry, dict) else "", min(float(logprob), 0.0)


def _alternatives(entry: JSON) -> tuple[tuple[str, float], ...]:
    """The alternatives at one token, best first; none where one of them cannot be read.

    Nor where together they are likelier than certain: a server that fills in zeros would look sure.
    """
    told = entry.get("top_logprobs") if isinstance(entry, dict) else None
    read = [_entry(one) for one in told] if isinstance(told, list) else []
    kept = [one for one in read if one is not None]
    if len(kept) < len(read) or math.fsum(math.exp(one[1]) for one in kept) > _MOST_MASS:
        return ()
    return tuple(sorted(kept, key=lambda one: one[1], reverse=True))


def _cut(logprobs: JSON, keep: int) -> JSON:
    if not isinstance(logprobs, dict):
        return logprobs
    content = logprobs.get("content")
    if not isinstance(content, list):
        return logprobs
    return {**logprobs, "content": [cut_entry(entry, keep) for entry in content]}


def cut_entry(entry: JSON, keep: int) -> JSON:
    """What is told of one token, with ``keep`` alternatives at most."""
    top = entry.get("top_logprobs") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(top, list):
        return entry
    return {**entry, "top_logprobs": top[:keep]}
