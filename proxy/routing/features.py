"""What the learned estimator looks at: every signal of the draft, and the form of the question."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from proxy.canonical import canonical_bytes
from proxy.holding import Held
from proxy.routes.chat import CHAT
from proxy.routing.doubts import doubts_of
from proxy.routing.signals import SIGNALS, evidence_of
from proxy.types import AUTO_MODEL, JSON, Decision, Draft, Request

_DIGIT: Final = re.compile(r"\d")
_ASKS: Final = re.compile(r"(?i)\b(?:who|what|when|where|which|how many|how much)\b")
_REASONS: Final = re.compile(r"(?i)\b(?:why|how|explain|prove|calculate|compute|solve)\b")
_CODE: Final = re.compile(r"```|\bdef |\bclass |[{};]\s*\n")

#: Where no model counted. Source: OpenAI, "What are tokens": about four characters of English.
_BYTES_A_TOKEN: Final = 4

QUESTION_FEATURES: Final = (
    "question_words",
    "question_digits",
    "question_asks_fact",
    "question_asks_reason",
    "question_has_code",
    "question_turns",
)

FEATURES: Final = (*SIGNALS, "num_tokens", "was_cut", "num_doubts", *QUESTION_FEATURES)


def features_of(request: Request, draft: Draft) -> tuple[float | None, ...] | None:
    """The values of `FEATURES`, in order; None for one that the server gave too little for.

    None in place of all where the log-probabilities tell nothing.
    """
    told = evidence_of(draft)
    signals = tuple(signal.read(told) for signal in SIGNALS.values())
    if signals[0] is None:
        return None
    return (
        *signals,
        math.log1p(len(draft.token_logprobs)),
        float(draft.finish_reason == "length"),
        float(len(doubts_of(draft))),
        *question_features(request),
    )


def question_of(request: Request) -> str:
    """The words of the last message; empty where it is not words alone."""
    turns = _turns(request)
    last = turns[-1] if turns else None
    content = last.get("content") if isinstance(last, dict) else None
    return content if isinstance(content, str) else ""


def question_features(request: Request) -> tuple[float, ...]:
    """The values of `QUESTION_FEATURES`: what is known before there is a draft."""
    text, turns = question_of(request), _turns(request)
    return (
        math.log1p(len(text.split())),
        math.log1p(len(_DIGIT.findall(text))),
        float(bool(_ASKS.search(text))),
        float(bool(_REASONS.search(text))),
        float(bool(_CODE.search(text))),
        float(len(turns)),
    )


def held_of(request: Request, decision: Decision, draft: Draft | None) -> Held | None:
    """What a plan may know of a request that is held; None: no plan can change where it goes.

    Args:
        request: what was asked.
        decision: what it may do.
        draft: the answer from home; None where that failed.
    """
    if not decision.may_leave or request.model != AUTO_MODEL or request.route != CHAT.name:
        return None
    reach = tuple({m: d.id for d in reversed(decision.destinations) for m in d.models}.items())
    wished = request.body.get("n")
    num_answers = wished if isinstance(wished, int) else 1
    # A server that does not count its tokens makes no line a cheap one.
    prompt_tokens = draft.prompt_tokens if draft is not None else 0
    if prompt_tokens == 0:
        prompt_tokens = math.ceil(len(canonical_bytes(request.body)) / _BYTES_A_TOKEN)
    features = features_of(request, draft) if draft is not None else None
    return Held(draft is not None, features, prompt_tokens, reach, num_answers)


def _turns(request: Request) -> Sequence[JSON]:
    messages = request.body.get("messages")
    return messages if isinstance(messages, list | tuple) else ()
