"""What an attempt may cost, and what it did cost: prices and budgets, as the cloud tier asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import structlog

from proxy.egress.bound import Bound, bound
from proxy.egress.budgets import BudgetStore, BudgetStoreError, Left, Reservation
from proxy.errors import CloudError, EgressDenied
from proxy.metrics import Metrics
from proxy.prices import Price, Prices
from proxy.routes.route import Abroad
from proxy.types import Destination, JSONObject, Outcome, RouteReason

log = structlog.get_logger()

#: Refusals that no provider bills. Others may be: "if the service performs processing, you'll be
#: charged even if the status code isn't successful", a filtered prompt (400) for one. Source:
#: Microsoft, "Plan and manage costs for Azure OpenAI".
_UNBILLED: Final = frozenset({401, 429})


@dataclass(frozen=True, slots=True)
class Plan:
    """The most that an attempt can cost, in US dollars, and what its body must say for that."""

    most: Decimal
    forced: tuple[tuple[str, int], ...]


#: Where no budget is set, nothing is bounded.
FREE: Final = Plan(Decimal(0), ())


@dataclass(frozen=True, slots=True)
class Spending:
    """Prices, and the budgets over them where there are any."""

    prices: Prices = field(default_factory=Prices)
    budgets: BudgetStore | None = None
    max_output_tokens: int = 1
    metrics: Metrics = field(default_factory=Metrics)

    def plan(
        self, body: JSONObject, destination: Destination, model: str, call: Abroad
    ) -> Plan | None:
        """What the attempt can cost; None: a budget is set, and nobody can say."""
        if self.budgets is None:
            return FREE
        price = self.prices.find(destination.id, model)
        found: Bound | None = bound(body, model, call, self.max_output_tokens)
        if price is None or found is None:
            return None
        return Plan(price.of(found.prompt_tokens, found.completion_tokens), found.forced)

    async def left_share(self, team: str) -> float:
        """The share of its tightest budget that ``team`` has left, in [0, 1]; 0: nobody knows."""
        if self.budgets is None:
            return 1.0
        left = await self._left(self.budgets, team)
        return left.share if left else 0.0

    async def why_not(self, team: str, plan: Plan | None) -> RouteReason | None:
        """Why ``plan`` is not within the budgets of ``team`` now; None: it is."""
        if plan is None:
            return RouteReason.COST_UNKNOWN
        if self.budgets is None:
            return None
        left = await self._left(self.budgets, team)
        if left is None:
            return RouteReason.CLOUD_UNAVAILABLE
        enough = left.nano >= plan.most * 10**9
        return None if enough else RouteReason.BUDGET_SPENT

    async def reserve(self, team: str, plan: Plan) -> Reservation | None:
        """Take what ``plan`` can cost; None: no budget is set.

        Raises:
            CloudError: not that much is left, or nobody knows; nothing may leave.
        """
        if self.budgets is None:
            return None
        taken, fault = None, "over_budget"
        try:
            taken = await self.budgets.reserve(team, plan.most)
        except BudgetStoreError:
            log.error("budgets_unavailable")
            fault = "no_budget"
        if taken is None:
            raise CloudError("The cloud budget is used up.", error_type=fault, sent="no")
        return taken

    async def settle(
        self,
        taken: Reservation | None,
        result: Outcome | CloudError | EgressDenied,
        price: Price | None,
    ) -> None:
        """Put back what ``result`` did not cost; where its cost is unknown, nothing."""
        if taken is None or self.budgets is None:
            return
        cost = _cost(result, price)
        if cost is None:
            return
        try:
            await self.budgets.settle(taken, cost)
        except BudgetStoreError:
            log.error("budgets_unavailable")
        if cost * 10**9 > taken.nano:
            log.warning("cost_beyond_bound")

    async def _left(self, budgets: BudgetStore, team: str) -> Left | None:
        try:
            left = await budgets.left(team)
        except BudgetStoreError:
            log.error("budgets_unavailable")
            return None
        for account, nano in left.accounts:
            self.metrics.budgeted(account.scope, account.period, nano / account.limit)
        return left


def _cost(result: Outcome | CloudError | EgressDenied, price: Price | None) -> Decimal | None:
    """What the attempt cost for certain; None: nobody knows."""
    if isinstance(result, Outcome):
        known = price is not None and result.counted
        return price.of(result.prompt_tokens, result.completion_tokens) if price and known else None
    if isinstance(result, EgressDenied) or result.sent == "no":
        return Decimal(0)
    return Decimal(0) if result.upstream_status in _UNBILLED else None
