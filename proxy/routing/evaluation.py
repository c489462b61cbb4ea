"""The cascade against its two ends on graded exchanges: the paper's Table 1 and its error analysis.

Source: Xin, "Hybrid Cloud Architecture for Efficient and Cost-Effective LLM Deployment", Table 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxy.routing.rows import Flags, Floats, Table


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to answer everything. Shares in [0, 1], times in ms.

    Costs are in US dollars; None where that of an answer which was sent for is unknown.
    ``low`` and ``high`` are the 95 % interval of the accuracy (Clopper and Pearson 1934).
    """

    name: str
    accuracy: float
    low: float
    high: float
    sent: float
    cost_usd: float | None
    mean_ms: float
    median_ms: float


@dataclass(frozen=True, slots=True)
class Errors:
    """Shares of all rows, in [0, 1]."""

    sure_and_wrong: float  # kept at home, and wrong
    sure_and_wrong_cloud_right: float  # of these, where the cloud would have known
    sent_and_wrong: float  # escalated, and still wrong
    sent_in_vain: float  # escalated though the local answer was right
    unknown: float  # no usable log-probabilities: stays at home


def arms(table: Table, threshold: float) -> tuple[Arm, Arm, Arm]:
    """Cloud-only, local-only and the hybrid at ``threshold``; the hybrid waits for both tiers."""
    sent = table.escalates(threshold)
    every = np.ones(len(table), dtype=bool)
    return (
        _arm("Cloud-only", table, every, table.cloud_ms),
        _arm("Local-only", table, ~every, table.local_ms),
        _arm("Hybrid", table, sent, table.local_ms + np.where(sent, table.cloud_ms, 0.0)),
    )


def errors(table: Table, threshold: float) -> Errors:
    """Where the hybrid is wrong, and why."""
    sent = table.escalates(threshold)
    kept_wrong = ~sent & ~table.local
    return Errors(
        sure_and_wrong=float(kept_wrong.mean()),
        sure_and_wrong_cloud_right=float((kept_wrong & table.cloud).mean()),
        sent_and_wrong=float((sent & ~table.cloud).mean()),
        sent_in_vain=float((sent & table.local).mean()),
        unknown=float(np.isnan(table.score).mean()),
    )


def _arm(name: str, table: Table, sent: Flags, elapsed_ms: Floats) -> Arm:
    right = np.where(sent, table.cloud, table.local)
    low, high = interval(int(right.sum()), len(right))
    cost = float(table.cost_usd[sent].sum())
    return Arm(
        name=name,
        accuracy=float(right.mean()),
        low=low,
        high=high,
        sent=float(sent.mean()),
        cost_usd=None if np.isnan(cost) else cost,
        mean_ms=float(elapsed_ms.mean()),
        median_ms=float(np.median(elapsed_ms)),
    )


def interval(num_right: int, num_rows: int, error_rate: float = 0.05) -> tuple[float, float]:
    """The exact interval of a share (Clopper and Pearson 1934)."""
    from scipy.stats import binomtest

    found = binomtest(num_right, num_rows).proportion_ci(1 - error_rate, method="exact")
    return float(found.low), float(found.high)


@dataclass(frozen=True, slots=True)
class Reliability:
    """Groups of equal size, from the least sure on: mean score and accuracy, ``(num_groups,)``."""

    score: Floats
    accuracy: Floats


def reliability(table: Table, num_groups: int = 10) -> Reliability:
    """How right the local model is at each level of its score; unknown scores are left out."""
    known = np.flatnonzero(~np.isnan(table.score))
    order = known[np.argsort(table.score[known], kind="stable")]
    groups = [group for group in np.array_split(order, num_groups) if group.size]
    return Reliability(
        np.array([table.score[group].mean() for group in groups]),
        np.array([table.local[group].mean() for group in groups]),
    )


def risk_coverage(table: Table) -> tuple[Floats, Floats]:
    """Coverage and the error rate of the surest drafts up to it. Source: arXiv 1705.08500."""
    known = np.flatnonzero(~np.isnan(table.score))
    order = known[np.argsort(-table.score[known], kind="stable")]
    wrong = np.cumsum(~table.local[order])
    count = np.arange(1, len(order) + 1)
    return count / len(table), wrong / count
