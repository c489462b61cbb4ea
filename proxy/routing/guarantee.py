"""A threshold that meets a goal with a stated error rate, for any score and any finite sample.

Learn-then-test: each threshold of a grid, fixed before the data are seen, is the hypothesis "here
the goal is missed". They are tested in a fixed order, from the safest on, each at level δ, and the
first that cannot be rejected ends the walk. The probability that a threshold which misses the goal
is chosen is at most δ, without correction for their number: to choose a bad one, the first bad one
of the order must have been rejected, and that happens with probability at most δ.

Source: Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then Test", arXiv 2110.01052, section 2
(fixed-sequence testing).

The test. Losses X_1 … X_n in [0, 1] are independent with mean μ; the hypothesis is μ > m. For each
λ in [0, 1/(1-m)) the wealth Π (1 + λ(m - X_i)) is never negative and has an expectation of at most
one when μ >= m: the factors are independent, each with expectation 1 + λ(m - μ) <= 1. So has the
mean of the wealths over a set of λ fixed in advance, and by Markov's inequality it exceeds 1/δ with
probability at most δ. Its inverse is therefore a p-value, exact for every n, and it profits from
losses of small variance, which Hoeffding's inequality does not. Where a loss is 0 or 1, the exact
binomial tail is used in its place. Where it is 0, 1/2 or 1 (better than, like or worse than the
cloud), the mean is above m only if the share of ones is above 2m - 1, which has an exact binomial
tail as well; the lesser of the two p-values, doubled, is one too (Bonferroni).

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", arXiv
2010.09686, section 4; the mixture over λ is its remark on hedged capital.

What it rests on: rows drawn independently from the traffic to come. A shift of traffic or model
voids it; the artifact names model, data and date for that reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np

from proxy.routing.rows import Floats

T = TypeVar("T")

#: Bets of the mixture, as shares of the greatest that cannot go broke: small ones for losses that
#: vary, bold ones for losses that are rare. Fixed in advance, as the proof asks.
_BETS: Final = np.concatenate([np.geomspace(0.01, 0.5, 10), 1.0 - np.geomspace(0.3, 1e-3, 8)])


def p_value(losses: Floats, limit: float) -> float:
    """p-value of "the mean loss is above ``limit``" given ``losses``, shape ``(n,)``, in [0, 1].

    A small one says that the mean is at most ``limit``.
    """
    if losses.size == 0 or not (losses.min() >= 0.0 and losses.max() <= 1.0):  # NaN is neither
        return 1.0
    if not 0.0 <= limit < 1.0:
        return 0.0 if limit >= 1.0 else 1.0
    values, counts = np.unique(losses, return_counts=True)
    if not np.setdiff1d(values, (0.0, 1.0)).size:
        return _binomial_p_value(int(losses.sum()), losses.size, limit)
    bets = _BETS / (1.0 - limit)
    log_wealth = np.log1p(np.outer(bets, limit - values)) @ counts
    top = float(log_wealth.max())
    log_mean = top + math.log(float(np.mean(np.exp(log_wealth - top))))
    by_wealth = math.exp(min(-log_mean, 0.0))
    if np.setdiff1d(values, (0.0, 0.5, 1.0)).size or limit < 0.5:
        return by_wealth
    by_count = _binomial_p_value(int((losses == 1.0).sum()), losses.size, 2.0 * limit - 1.0)
    return min(1.0, 2.0 * min(by_wealth, by_count))


def _binomial_p_value(num_lost: int, num_rows: int, limit: float) -> float:
    """The exact one, where a loss is all or nothing: Clopper and Pearson 1934."""
    from scipy.stats import binom

    return float(binom.cdf(num_lost, num_rows, limit))


def choose_threshold(
    ordered: Sequence[T],
    losses_at: Callable[[T], Floats],
    limit: float,
    delta: float,
) -> T | None:
    """The last of ``ordered`` before the first whose mean loss may be above ``limit``.

    Args:
        ordered: thresholds, or tuples of them, from the safest on; fixed without a look at the
            data.
        losses_at: the losses, shape ``(n,)``, each in [0, 1], that a threshold brings.
        limit: the mean loss that must not be exceeded.
        delta: the error rate.

    Returns:
        A threshold that keeps the limit with probability at least ``1 - delta``; None where not
        even the first does.
    """
    chosen = None
    for threshold in ordered:
        if p_value(losses_at(threshold), limit) > delta:
            break
        chosen = threshold
    return chosen


def grid(low: float, high: float, num: int = 200) -> tuple[float, ...]:
    """Thresholds over a score's range, ascending; made from the range alone, never from data.

    A range that begins at minus infinity is covered in equal ratios of the distance to its end,
    since log-probabilities crowd there; a finite one in equal steps, and closer at both ends.
    """
    if math.isinf(low):
        far = np.geomspace(50.0, 1e-7, num)
        return (*(high - far).tolist(), high)
    ends = np.geomspace(1e-6, 0.01, num // 4)
    inner = np.linspace(0.01, 0.99, num // 2)
    shares = np.unique(np.concatenate([[0.0], ends, inner, 1.0 - ends, [1.0]]))
    return tuple((low + shares * (high - low)).tolist())
