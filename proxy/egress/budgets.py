"""Budgets: how much of a day's and a month's money is left, for each team and for all together.

The most that a request can cost is taken before it leaves, and what it cost less is put back once
the outcome tells. What nobody knows stays taken; so does what a crash cut off. One SQLite file that
the server processes of a machine share. A store that fails lets nothing leave.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from proxy.database import PrivateDatabase
from proxy.errors import ProxyError
from proxy.prices import Dollars, Price
from proxy.tables import load_table

#: The scope of the budget over all teams; no team can have this name.
OVERALL: Final = "*"

_NANO: Final = 10**9
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS spent (
  scope TEXT NOT NULL, period TEXT NOT NULL, nano INTEGER NOT NULL, PRIMARY KEY (scope, period)
) WITHOUT ROWID
"""


class BudgetStoreError(ProxyError):
    """The budgets cannot be read or written; nothing leaves."""

    code = "budgets_unavailable"
    http_status = 503


class Budget(BaseModel):
    """US dollars for a UTC day and a calendar month; None: no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    day_usd: Annotated[Dollars, Field(gt=0)] | None = None
    month_usd: Annotated[Dollars, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> Budget:
        if self.day_usd is None and self.month_usd is None:
            raise ValueError("names neither day_usd nor month_usd")
        return self


class Budgets(BaseModel):
    """The budgets of the file: over all, by team, and for each team that is not named."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    overall: Budget | None = None
    teams: dict[str, Budget] = Field(default_factory=dict)
    each_other_team: Budget | None = None
    max_output_tokens: int = Field(default=4096, ge=1, le=99_999)

    def too_small(self, price: Price) -> list[str]:
        """The members of the file whose budget does not bear one longest answer at ``price``."""
        cost = price.of(0, self.max_output_tokens)
        named = {"overall": self.overall, "each_other_team": self.each_other_team}
        named |= {f"teams.{name}": budget for name, budget in self.teams.items()}
        return [
            name
            for name, budget in named.items()
            if budget is not None
            and any(
                limit is not None and limit < cost for limit in (budget.day_usd, budget.month_usd)
            )
        ]

    def of(self, team: str) -> Iterator[tuple[str, Budget]]:
        """The budgets that a request of ``team`` is held to, by scope."""
        if self.overall is not None:
            yield OVERALL, self.overall
        own = self.teams.get(team, self.each_other_team)
        if own is not None:
            yield team, own


@dataclass(frozen=True, slots=True)
class Account:
    """What may be spent in one period; ``limit`` and sums of money are in nanodollars."""

    scope: str
    period: str
    limit: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money that was taken for one attempt, and from where."""

    accounts: tuple[Account, ...]
    nano: int


@dataclass(frozen=True, slots=True)
class Left:
    """What is left: ``nano`` of the tightest account, and the least ``share`` of any, in [0, 1].

    ``accounts`` are pairs of an account and its rest in nanodollars.
    """

    nano: int
    share: float
    accounts: tuple[tuple[Account, int], ...] = field(default=())


class BudgetStore:
    """Keeps what was spent, for all server processes of a machine."""

    def __init__(
        self, path: Path, budgets: Budgets, clock: Callable[[], float] = time.time
    ) -> None:
        """Open the store.

        Raises:
            BudgetStoreError: it cannot be opened.
        """
        self._budgets = budgets
        self._clock = clock
        self._db = PrivateDatabase(path, _unavailable, _SCHEMA)

    async def left(self, team: str) -> Left:
        """What ``team`` may still spend now.

        Raises:
            BudgetStoreError: nobody knows.
        """
        accounts = self._accounts(team)
        return await asyncio.to_thread(self._db.read, lambda db: _left(db, accounts))

    async def reserve(self, team: str, most: Decimal) -> Reservation | None:
        """Take ``most`` US dollars, durably; None: not that much is left, and nothing was taken.

        Raises:
            BudgetStoreError: it is not known whether it was taken.
        """
        accounts, nano = self._accounts(team), _nano(most)

        def take(db: sqlite3.Connection) -> Reservation | None:
            if _left(db, accounts).nano < nano:
                return None
            _add(db, accounts, nano)
            return Reservation(accounts, nano)

        return await asyncio.to_thread(self._db.write, take)

    async def settle(self, reservation: Reservation, cost: Decimal) -> None:
        """Put back what was taken beyond ``cost``, or take what it cost beyond that.

        Raises:
            BudgetStoreError: it stays as reserved.
        """
        change = _nano(cost) - reservation.nano
        work = self._db.write
        await asyncio.to_thread(work, lambda db: _add(db, reservation.accounts, change))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _accounts(self, team: str) -> tuple[Account, ...]:
        now = datetime.fromtimestamp(self._clock(), UTC)
        periods: Mapping[str, str] = {"day_usd": f"{now:%Y-%m-%d}", "month_usd": f"{now:%Y-%m}"}
        return tuple(
            Account(scope, period, int((limit * _NANO).to_integral_value(ROUND_DOWN)))
            for scope, budget in self._budgets.of(team)
            for name, period in periods.items()
            if (limit := getattr(budget, name)) is not None
        )


def load_budgets(path: Path) -> Budgets:
    """Read the budgets.

    Raises:
        SettingsError: the file cannot be read, or holds no budgets; says where.
    """
    return load_table(path, Budgets, "RINGFENCE_BUDGETS_FILE")


def _left(db: sqlite3.Connection, accounts: tuple[Account, ...]) -> Left:
    rest = []
    for account in accounts:
        row = db.execute(
            "SELECT nano FROM spent WHERE scope = ? AND period = ?",
            (account.scope, account.period),
        ).fetchone()
        rest.append((account, max(account.limit - (row[0] if row else 0), 0)))
    return Left(
        min((nano for _, nano in rest), default=2**62),
        min((nano / account.limit for account, nano in rest), default=1.0),
        tuple(rest),
    )


def _add(db: sqlite3.Connection, accounts: tuple[Account, ...], nano: int) -> None:
    db.executemany(
        "INSERT INTO spent VALUES (?, ?, ?) "
        "ON CONFLICT (scope, period) DO UPDATE SET nano = nano + excluded.nano",
        [(account.scope, account.period, nano) for account in accounts],
    )


def _nano(dollars: Decimal) -> int:
    return int((dollars * _NANO).to_integral_value(ROUND_UP))


def _unavailable() -> BudgetStoreError:
    return BudgetStoreError("The budgets are not available.")
