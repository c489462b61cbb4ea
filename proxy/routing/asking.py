"""Estimators that ask the local model again: whether its answer is true, or the same question anew.

They cost local calls, never a cloud call, and say unknown where a call fails or is not worth it.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from proxy.errors import LocalBackendError
from proxy.local.backend import LocalBackend
from proxy.routes.logprobs import NUM_TOP
from proxy.routing.doubts import doubts_of
from proxy.types import Confidence, Draft, JSONObject, Request

AskingScore = Callable[[LocalBackend, Request, Draft], Awaitable[float | None]]

#: Source: Kadavath et al., arXiv 2207.05221, section 3, put as one more turn of the chat.
_IS_IT_TRUE: Final = (
    "Is your answer above correct? Reply with one word, True or False, and nothing else."
)

#: Source: Wang et al., arXiv 2203.11171: temperature 0.7; five samples take most of the gain.
NUM_SAMPLES: Final = 5
_TEMPERATURE: Final = 0.7

_WORD: Final = re.compile(r"\w+")
_ARTICLES: Final = frozenset({"a", "an", "the"})


@dataclass(frozen=True, slots=True)
class AskingEstimator:
    """The estimator around a score that needs the local model."""

    name: str
    ask: AskingScore
    local: LocalBackend
    threshold: float
    calibration_id: str | None = None

    async def estimate(self, request: Request, draft: Draft, *, may_ask: bool) -> Confidence:
        """Score ``draft``; see `ConfidenceEstimator`."""
        score = await self._score(request, draft) if may_ask else None
        return Confidence(
            score, self.threshold, self.name, self.calibration_id, doubts=doubts_of(draft)
        )

    async def _score(self, request: Request, draft: Draft) -> float | None:
        try:
            return await self.ask(self.local, request, draft)
        except LocalBackendError:
            return None


async def p_true(local: LocalBackend, request: Request, draft: Draft) -> float | None:
    """The probability, in [0, 1], that the local model gives to "True" when asked about its answer.

    What it would say beside "true" and "false" counts half for each, since it is neither: a word
    that is hardly likely must not be certain for want of the other. None where neither is among
    the likeliest tokens.
    """
    messages = request.body.get("messages")
    if not isinstance(messages, list | tuple) or not _says_something(draft):
        return None
    body: JSONObject = {
        "model": request.model,
        "messages": [
            *messages,
            {"role": "assistant", "content": draft.text},
            {"role": "user", "content": _IS_IT_TRUE},
        ],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": NUM_TOP * 2,
    }
    verdict = await local.generate(replace(request, body=body, stream=False))
    mass = {"true": 0.0, "false": 0.0}
    for token, logprob in verdict.top_logprobs[0] if verdict.top_logprobs else ():
        if (word := token.strip(" \u2581\u0120\n").casefold()) in mass:
            mass[word] += math.exp(logprob)
    total = mass["true"] + mass["false"]
    return mass["true"] + max(1.0 - total, 0.0) / 2.0 if total else None


async def self_consistency(local: LocalBackend, request: Request, draft: Draft) -> float | None:
    """How far five fresh samples agree with the draft: mean F1 of their words, in [0, 1].

    For an answer of one word this is the share of samples that say the same. None for a draft
    without words, as a call of a tool is: that samples say nothing either tells nothing.
    """
    if not _says_something(draft):
        return None
    fixed = {name: value for name, value in request.body.items() if name != "seed"}
    again = replace(request, body={**fixed, "temperature": _TEMPERATURE}, stream=False)
    samples = await asyncio.gather(*(local.generate(again) for _ in range(NUM_SAMPLES)))
    said = _pieces(draft.text)
    return math.fsum(_f1(said, _pieces(one.text)) for one in samples) / NUM_SAMPLES


def _says_something(draft: Draft) -> bool:
    """Whether the draft is words, as far as its text and its end tell."""
    return bool(draft.text.strip()) and draft.finish_reason not in ("tool_calls", "function_call")


def _pieces(text: str) -> tuple[str, ...]:
    """Its words; its signs where it has none, as a sum or a smile."""
    return words_of(text) or tuple(text.split())


def words_of(text: str) -> tuple[str, ...]:
    """The words of ``text`` in lower case, without articles, unless there is nothing else."""
    words = tuple(_WORD.findall(text.casefold()))
    return tuple(word for word in words if word not in _ARTICLES) or words


def _f1(one: Sequence[str], other: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of words, as SQuAD's metric has it."""
    if not one or not other:
        return float(one == other)
    shared = sum((Counter(one) & Counter(other)).values())
    return 2 * shared / (len(one) + len(other))


#: Name, score and start threshold.
ASKING: Final[dict[str, tuple[AskingScore, float]]] = {
    "p_true": (p_true, 0.5),
    "self_consistency": (self_consistency, 0.6),
}
