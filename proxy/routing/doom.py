"""Early exit: that a draft cannot reach the threshold, whatever follows, shows before it ends.

Every further token has a log-probability of at most 0, and at most so many come. So the surest end
of a draft is known at each token: all that is missing comes with certainty. Where even that end
scores below the threshold, so does every other, and so does the draft as it stands.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.local.backend import WatchedBackend
from proxy.routing.catalog import range_of
from proxy.routing.thrift import thrifty
from proxy.types import Confidence, JSONObject

#: Takes the log-probability of the next token; True once no end can reach the threshold.
Doomed = Callable[[float], bool]

#: What rounding may add to a score; the same sums are made in another order at the end.
_ROUNDING: Final = 1e-9

#: The fields by which a client bounds an answer. Source: OpenAI API reference.
_LIMITS: Final = ("max_completion_tokens", "max_tokens")

_QUANTILES: Final = {"quantile_05": 0.05, "quantile_10": 0.10, "quantile_25": 0.25}


@dataclass(frozen=True, slots=True)
class EarlyExit:
    """Who can watch a draft, and what it must reach: ``estimator`` against ``threshold``."""

    local: WatchedBackend
    estimator: str
    threshold: float

    def doom(self, body: JSONObject, left: float) -> Doomed | None:
        """The watch over a draft of ``body``, for a budget of which the share ``left`` is left."""
        asked = Confidence(None, self.threshold, self.estimator)
        threshold = thrifty(asked, range_of(self.estimator), left).threshold
        return doom_of(self.estimator, threshold, body)


def doom_of(estimator: str, threshold: float, body: JSONObject) -> Doomed | None:
    """The watch over a draft of ``body``; None where the estimator knows no such bound.

    A mean or a quantile needs to know how many tokens may come: the client has to say so.
    """
    given = [value for name in _LIMITS if (value := body.get(name)) is not None]
    counts = [value for value in given if isinstance(value, int) and value > 0]
    most = max(counts) if counts and len(counts) == len(given) else None
    found = _score_of(estimator, most)
    if found is None:
        return None
    seen: set[float] = set()

    def doomed(logprob: float) -> bool:
        # all the same is no evidence but for one token: such a draft's confidence is unknown
        if len(seen) < 2:
            seen.add(logprob)
        return found(logprob) < threshold - _ROUNDING and len(seen) > 1

    return doomed


def _score_of(estimator: str, most: int | None) -> Callable[[float], float] | None:
    """The score of the surest end, after each token that is taken."""
    if estimator == "min":
        return _least()
    if most is None:
        return None
    if estimator == "mean_logprob":
        return _mean(most)
    share = _QUANTILES.get(estimator)
    return None if share is None else _quantile(share, most)


def _least() -> Callable[[float], float]:
    least = 0.0

    def take(logprob: float) -> float:
        nonlocal least
        least = min(least, logprob)
        return least

    return take


def _mean(most: int) -> Callable[[float], float]:
    total, num_seen = 0.0, 0

    def take(logprob: float) -> float:
        nonlocal total, num_seen
        total, num_seen = total + logprob, num_seen + 1
        return total / max(most, num_seen)

    return take


def _quantile(share: float, most: int) -> Callable[[float], float]:
    ordered: list[float] = []

    def at(place: int) -> float:
        return ordered[place] if place < len(ordered) else 0.0

    def take(logprob: float) -> float:
        insort(ordered, logprob)
        last = max(most, len(ordered)) - 1
        low = math.floor(share * last)
        part = share * last - low
        return at(low) + part * (at(min(low + 1, last)) - at(low))

    return take
