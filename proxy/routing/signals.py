"""What the token log-probabilities of a draft say: one pure function a signal.

Each takes a draft and gives a number that is higher the surer the model was, or None where the
server gave too little. `mean_logprob` is the paper's rule. None of them ever takes missing, zero
or constant log-probabilities for certainty.

Sources: Xin, "Hybrid Cloud Architecture for Efficient and Cost-Effective LLM Deployment", section
2.1 (mean); Gupta et al., arXiv 2404.10136 (quantiles); UCCI, arXiv 2605.18796 (margins); DeepConf,
arXiv 2508.15260 (worst and tail windows).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from proxy.routes.logprobs import is_evidence
from proxy.types import Draft, Request

Top = tuple[tuple[str, float], ...]

#: Tokens of a window: long enough to be no single odd token. Source: DeepConf, scaled down
#: from its 2,048-token windows over long reasoning to short answers.
WINDOW_TOKENS: Final = 16

#: Nats a token from which on a perplexity grows no more: servers write -9999 for "impossible", and
#: one such draft would outweigh all others where the learned estimator is trained.
_MOST_SURPRISE: Final = 20.0

#: What stands before the answer proper, the last of them counts. Sources: "the answer is" of
#: chain-of-thought prompts (arXiv 2201.11903), `####` of GSM8K, `\\boxed{` of MATH.
_ANSWER_MARK: Final = re.compile(r"(?i)\banswer(?:\s+is)?\s*:?\s*|####\s*|\\boxed\{")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the server told of a draft, looked at once for all signals.

    ``logprobs``, shape ``(num_tokens,)``, are empty where they are no evidence; ``top``, the
    alternatives at each token, where a place has fewer than two, or tells nothing.
    """

    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]
    top: tuple[Top, ...]


def evidence_of(draft: Draft) -> Evidence:
    """The evidence in ``draft``."""
    logprobs = draft.token_logprobs if is_evidence(draft.token_logprobs) else ()
    top = draft.top_logprobs
    whole = logprobs and len(top) == len(logprobs) and all(len(place) > 1 for place in top)
    return Evidence(draft.tokens, logprobs, top if whole else ())


@dataclass(frozen=True, slots=True)
class Signal:
    """A score over a draft: its name, the least and the most it can be, and a start value for τ.

    ``default_threshold`` is a guess until it is calibrated, and every place that shows it says so.
    """

    name: str
    read: Callable[[Evidence], float | None]
    low: float
    high: float
    default_threshold: float
    meaning: str
    needs_top: bool = False

    def of(self, draft: Draft) -> float | None:
        """The signal of ``draft``; None where the server gave too little for it."""
        return self.read(evidence_of(draft))

    def score(self, _: Request, draft: Draft) -> float | None:
        """The signal of ``draft``, whatever was asked."""
        return self.of(draft)


def mean_logprob(told: Evidence) -> float | None:
    """Arithmetic mean of the token log-probabilities (natural log): the paper's rule."""
    return _mean(told.logprobs)


def min_logprob(told: Evidence) -> float | None:
    """The least sure token."""
    return min(told.logprobs, default=None)


def quantile_of(share: float) -> Callable[[Evidence], float | None]:
    """The signal "the ``share`` quantile of the token log-probabilities", with interpolation."""

    def quantile(told: Evidence) -> float | None:
        ordered = sorted(told.logprobs)
        if not ordered:
            return None
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    return quantile


def answer_perplexity(told: Evidence) -> float | None:
    """Minus the perplexity of the answer span: what follows the last "answer:", `####`, `\\boxed{`.

    The whole draft where it has no such mark. Perplexity is exp(-mean log-probability).
    """
    logprobs = told.logprobs
    mean = _mean(logprobs[_answer_start(told.tokens) :])
    return None if mean is None else -math.exp(min(-mean, _MOST_SURPRISE))


def entropy(told: Evidence) -> float | None:
    """Minus the mean entropy (nats) of the alternatives at each token.

    The mass that the alternatives leave out counts as one bin, so that a list cut at k does not
    look surer than it is.
    """
    return _mean([-_entropy(top) for top in told.top])


def first_margin(told: Evidence) -> float | None:
    """Probability of the likeliest first token less that of the next."""
    return next((_margin(top) for top in told.top), None)


def mean_margin(told: Evidence) -> float | None:
    """Mean over the tokens of the likeliest token's probability less the next one's."""
    return _mean([_margin(top) for top in told.top])


def worst_window(told: Evidence) -> float | None:
    """The least mean log-probability of `WINDOW_TOKENS` tokens in a row."""
    logprobs = told.logprobs
    if len(logprobs) <= WINDOW_TOKENS:
        return _mean(logprobs)
    sums = [0.0, *accumulate(logprobs)]
    pairs = zip(sums, sums[WINDOW_TOKENS:], strict=False)
    return min(end - start for start, end in pairs) / WINDOW_TOKENS


def tail_window(told: Evidence) -> float | None:
    """The mean log-probability of the last `WINDOW_TOKENS` tokens."""
    return _mean(told.logprobs[-WINDOW_TOKENS:])


_INF: Final = math.inf

#: Every signal, in the order the docs list them.
SIGNALS: Final = {
    signal.name: signal
    for signal in (
        Signal("mean_logprob", mean_logprob, -_INF, 0, -0.6, "mean token log-probability"),
        Signal("min", min_logprob, -_INF, 0, -3.0, "least token log-probability"),
        Signal("quantile_05", quantile_of(0.05), -_INF, 0, -2.5, "5 % quantile"),
        Signal("quantile_10", quantile_of(0.10), -_INF, 0, -2.0, "10 % quantile"),
        Signal("quantile_25", quantile_of(0.25), -_INF, 0, -1.0, "25 % quantile"),
        Signal("answer_perplexity", answer_perplexity, -_INF, -1, -1.8, "minus perplexity"),
        Signal("entropy", entropy, -_INF, 0, -1.0, "minus mean entropy (nats)", needs_top=True),
        Signal("first_margin", first_margin, 0, 1, 0.4, "first token's margin", needs_top=True),
        Signal("mean_margin", mean_margin, 0, 1, 0.5, "mean margin", needs_top=True),
        Signal("worst_window", worst_window, -_INF, 0, -1.0, "worst 16 tokens' mean"),
        Signal("tail_window", tail_window, -_INF, 0, -0.6, "last 16 tokens' mean"),
    )
}


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _margin(top: Top) -> float:
    return min(math.exp(top[0][1]) - math.exp(top[1][1]), 1.0)


def _entropy(top: Top) -> float:
    rest, total = 1.0, 0.0
    for _, logprob in top:
        p = math.exp(logprob)
        rest -= p
        total -= p * logprob
    return total - rest * math.log(rest) if rest > 0 else total


def _answer_start(tokens: Sequence[str]) -> int:
    """Index of the first token of the answer span; 0 where nothing marks one."""
    marks = list(_ANSWER_MARK.finditer("".join(tokens)))
    if not marks:
        return 0
    ends = list(accumulate(len(token) for token in tokens))
    return next((index for index, end in enumerate(ends) if end > marks[-1].end()), 0)
