"""How good an ordering of drafts is: AUROC, the accuracy over the cloud share, and its area."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxy.routing.rows import Flags, Floats


def auroc(score: Floats, correct: Flags) -> float:
    """Probability that a right draft outranks a wrong one, ties counting half; NaN without both.

    Source: Mann and Whitney 1947; the area under the ROC curve (Hanley and McNeil 1982).
    """
    num_right = int(correct.sum())
    num_wrong = len(correct) - num_right
    if not num_right or not num_wrong:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2.0)[inverse]
    return float((ranks[correct].sum() - num_right * (num_right + 1) / 2) / (num_right * num_wrong))


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy of the whole at each cloud share, both of shape ``(num_rows + 1,)``."""

    share: Floats
    accuracy: Floats

    @property
    def area(self) -> float:
        """Mean accuracy over all shares, by the trapezoidal rule."""
        return float(np.trapezoid(self.accuracy, self.share))

    def at(self, share: float) -> float:
        """The accuracy at a cloud share in [0, 1], interpolated."""
        return float(np.interp(share, self.share, self.accuracy))


def curve(score: Floats, local: Flags, cloud: Flags) -> Curve:
    """Send the least sure drafts first; drafts of equal score share their gain evenly."""
    num_rows = len(score)
    order = np.argsort(score, kind="stable")
    gain = (cloud.astype(np.float64) - local.astype(np.float64))[order]
    _, group, counts = np.unique(score[order], return_inverse=True, return_counts=True)
    even = (np.bincount(group, weights=gain) / counts)[group]
    accuracy = (float(local.sum()) + np.concatenate([[0.0], np.cumsum(even)])) / num_rows
    return Curve(np.arange(num_rows + 1) / num_rows, accuracy)


def random_curve(local: Flags, cloud: Flags) -> Curve:
    """What an ordering without any knowledge gives on average: the straight line."""
    return curve(np.zeros(len(local)), local, cloud)


def perfect_curve(local: Flags, cloud: Flags) -> Curve:
    """What an ordering that knows both answers gives."""
    return curve(local.astype(np.float64) - cloud.astype(np.float64), local, cloud)


def reach(score: Floats, local: Flags, cloud: Flags) -> float:
    """How far of the way from random to perfect ordering the area goes; NaN where they meet."""
    floor = random_curve(local, cloud).area
    ceiling = perfect_curve(local, cloud).area
    if ceiling <= floor:
        return float("nan")
    return (curve(score, local, cloud).area - floor) / (ceiling - floor)
