"""The paper's rule: mean token log-probability of the draft, `<unk>` tokens and hedging phrases.

Source: Xin, "Hybrid Cloud Architecture for Efficient and Cost-Effective LLM Deployment", section
2.1.
"""

from __future__ import annotations

import math
import re
from typing import Final

from proxy.types import Confidence, Draft

#: Phrases with which a model says that it does not know. Source: the paper names the first three;
#: the others are their plain variants in English. Compared in lower case, at word borders.
HEDGES: Final = (
    "i'm not sure",
    "i am not sure",
    "i don't know",
    "i do not know",
    "i'm not certain",
    "i am not certain",
    "i'm unsure",
    "i am unsure",
    "i cannot answer",
    "i can't answer",
    "i cannot determine",
    "i have no information",
    "i don't have information",
    "i don't have enough information",
    "it is unclear",
    "it's unclear",
    "not enough information",
    "as far as i know",
    "i'm sorry, but i",
)

_HEDGE_PATTERN: Final = re.compile(
    r"(?<!\w)(?:" + "|".join(re.escape(phrase) for phrase in HEDGES) + r")(?!\w)"
)
_APOSTROPHES: Final = str.maketrans({mark: "'" for mark in "\u2018\u2019\u02bc\u00b4`\uff07"})

SPECIAL_TOKENS: Final = ("<unk>", "[UNK]")


class MeanLogprobEstimator:
    """Scores a draft by the arithmetic mean of its token log-probabilities (natural log)."""

    name = "mean_logprob"

    def __init__(self, threshold: float, calibration_id: str | None = None) -> None:
        self._threshold = threshold
        self._calibration_id = calibration_id

    def estimate(self, draft: Draft) -> Confidence:
        """Score ``draft``; ``score`` is None where it has no usable log-probabilities."""
        return Confidence(
            score=mean_logprob(draft.token_logprobs),
            threshold=self._threshold,
            estimator=self.name,
            calibration_id=self._calibration_id,
            doubts=doubts_of(draft),
        )


def mean_logprob(token_logprobs: tuple[float, ...]) -> float | None:
    """Mean of ``token_logprobs``, shape ``(num_tokens,)``; None where there are none to trust.

    A server that accepts ``logprobs`` and fills in zeros looks perfectly certain; several tokens
    that are all exactly 0.0 are no evidence.
    """
    if not token_logprobs or any(not math.isfinite(p) or p > 1e-6 for p in token_logprobs):
        return None
    if len(token_logprobs) > 1 and not any(token_logprobs):
        return None
    return math.fsum(token_logprobs) / len(token_logprobs)


def doubts_of(draft: Draft) -> tuple[str, ...]:
    """Signs of doubt in the words of ``draft``, as codes made of our own phrases."""
    text = draft.text.translate(_APOSTROPHES).casefold()
    hedges = dict.fromkeys(f"hedge:{match[0]}" for match in _HEDGE_PATTERN.finditer(text))
    special = [f"special_token:{token}" for token in SPECIAL_TOKENS if token in draft.tokens]
    return (*hedges, *special)
