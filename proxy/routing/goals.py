"""What an operator wants of a threshold, in words, and the bounded loss that says it is missed."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from proxy.errors import SettingsError
from proxy.routing.guarantee import choose_threshold
from proxy.routing.rows import Flags, Floats, Table


class GoalKind(enum.StrEnum):
    """What is bounded."""

    WITHIN_CLOUD = "within_cloud"  # accuracy lost against asking the cloud about everything
    ACCURACY = "accuracy"  # accuracy of the whole
    CLOUD_SHARE = "cloud_share"  # share of requests sent
    DAILY_COST = "daily_cost"  # US dollars a day


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound to keep. ``bound`` is a share in [0, 1], or dollars a day.

    A daily cost needs to know how many requests a day brings and the most one of them can cost.
    """

    kind: GoalKind
    bound: float
    requests_per_day: float = 0.0
    max_cost_usd: float = 0.0

    @property
    def prefers_cloud(self) -> bool:
        """Whether sending more is the safe side; else sending less is."""
        return self.kind in (GoalKind.WITHIN_CLOUD, GoalKind.ACCURACY)

    @property
    def limit(self) -> float:
        """The bound on the mean of `losses`."""
        if self.kind is GoalKind.WITHIN_CLOUD:
            return (1.0 + self.bound) / 2.0
        if self.kind is GoalKind.ACCURACY:
            return 1.0 - self.bound
        if self.kind is GoalKind.CLOUD_SHARE:
            return self.bound
        return self.bound / (self.requests_per_day * self.max_cost_usd)

    def losses(self, table: Table, threshold: float) -> Floats:
        """The loss of each row at ``threshold``, shape ``(num_rows,)``, in [0, 1].

        For `WITHIN_CLOUD` a row loses 1 where the cloud alone would have been right and the hybrid
        is not, 0 where it is the other way round, and 1/2 where both are alike. A row whose
        confidence is unknown counts as sent where sending costs: it tells nothing of what will be
        sent once there is a confidence.
        """
        sent = table.escalates(threshold)
        hybrid = np.where(sent, table.cloud, table.local)
        if not self.prefers_cloud:
            sent = sent | np.isnan(table.score)
        return self.losses_of(hybrid, table.cloud, sent, np.where(sent, table.cost_usd, 0.0))

    def losses_of(self, hybrid: Flags, cloud: Flags, sent: Flags, cost_usd: Floats) -> Floats:
        """The same of any rule: whether it, and the cloud alone, are right; what left; its cost."""
        if self.kind is GoalKind.WITHIN_CLOUD:
            return (1.0 + cloud.astype(np.float64) - hybrid.astype(np.float64)) / 2.0
        if self.kind is GoalKind.ACCURACY:
            return 1.0 - hybrid.astype(np.float64)
        if self.kind is GoalKind.CLOUD_SHARE:
            return sent.astype(np.float64)
        return cost_usd / self.max_cost_usd


_PERCENT: Final = r"(?P<number>\d+(?:\.\d+)?)\s*%"
_FORMS: Final = (
    (GoalKind.WITHIN_CLOUD, re.compile(rf"within {_PERCENT} of (?:the )?cloud")),
    (GoalKind.ACCURACY, re.compile(rf"accuracy at least {_PERCENT}")),
    (GoalKind.CLOUD_SHARE, re.compile(rf"cloud share at most {_PERCENT}")),
    (
        GoalKind.DAILY_COST,
        re.compile(r"cost at most \$\s*(?P<number>\d+(?:\.\d+)?) a day"),
    ),
)


def read_goal(text: str, *, requests_per_day: float = 0.0, max_cost_usd: float = 0.0) -> Goal:
    """The goal that ``text`` names.

    Raises:
        SettingsError: it names none, or one that can never be met or missed.
    """
    words = " ".join(text.casefold().split())
    for kind, form in _FORMS:
        if found := form.fullmatch(words):
            number = float(found["number"])
            if kind is not GoalKind.DAILY_COST:
                number /= 100.0
                if not 0.0 < number < 1.0:
                    raise SettingsError("a goal in percent lies between 0 and 100")
            elif not (requests_per_day > 0 and max_cost_usd > 0 and number > 0):
                raise SettingsError(
                    "a cost a day needs --requests-per-day and --max-cost, the most that one "
                    "request can cost in dollars"
                )
            return Goal(kind, number, requests_per_day, max_cost_usd)
    raise SettingsError(
        'no such goal; say "within 1% of cloud", "accuracy at least 94%", '
        '"cloud share at most 38%" or "cost at most $5 a day"'
    )


def threshold_for(
    goal: Goal, table: Table, thresholds: Sequence[float], delta: float
) -> float | None:
    """The threshold that keeps ``goal`` with probability ``1 - delta`` and gives least away.

    Args:
        goal: what to keep.
        table: graded exchanges, independent of each other and of ``thresholds``.
        thresholds: the grid, ascending.
        delta: the error rate.

    Raises:
        SettingsError: a row costs more than the goal says that a request can, or nobody knows what;
            or no confidence is known.
    """
    if np.isnan(table.score).all():
        raise SettingsError(
            "no row has log-probabilities that can be used: there is no confidence to calibrate"
        )
    if goal.kind is GoalKind.DAILY_COST:
        if np.isnan(table.cost_usd).any():
            raise SettingsError(
                "some rows have no cost: record cost_usd, or tokens with RINGFENCE_PRICES_FILE"
            )
        if table.cost_usd.max() > goal.max_cost_usd:
            raise SettingsError("--max-cost: a row of the data costs more")
    ordered = list(reversed(thresholds)) if goal.prefers_cloud else list(thresholds)
    return choose_threshold(
        ordered, lambda threshold: goal.losses(table, threshold), goal.limit, delta
    )
