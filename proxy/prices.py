"""What a cloud answer costs: prices by destination and model, and the sum for one answer.

The table is the operator's; nothing is fetched. A model that is not in it has an unknown price,
which is never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from proxy.tables import load_table

#: Costs are kept to a nanodollar and rounded up: many small ones must not add up to nothing.
_LEAST: Final = Decimal("1e-9")


def _decimal(value: object) -> object:
    """The number as it stands in the file: 0.15 is 15 hundredths, not the nearest binary one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Decimal(str(value)) if is_number else value


Dollars = Annotated[Decimal, BeforeValidator(_decimal), Field(ge=0, le=10**9)]


class Price(BaseModel):
    """US dollars for 1,000 tokens, in and out."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    input: Annotated[Dollars, Field(le=1000)]
    output: Annotated[Dollars, Field(le=1000)]

    def of(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """What these tokens cost, in US dollars."""
        thousands = prompt_tokens * self.input + completion_tokens * self.output
        return (thousands / 1000).quantize(_LEAST, rounding=ROUND_UP)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    usd_per_1k_tokens: dict[str, dict[str, Price]]


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by destination and model; the empty table knows none."""

    table: Mapping[str, Mapping[str, Price]] = field(default_factory=dict)

    def find(self, destination: str, model: str) -> Price | None:
        """The price of ``model`` at ``destination``; None: unknown."""
        return self.table.get(destination, {}).get(model)

    def anywhere(self, model: str) -> Price | None:
        """The price of ``model``, if every destination that has it asks the same; else None."""
        asked = {models[model] for models in self.table.values() if model in models}
        return asked.pop() if len(asked) == 1 else None


def load_prices(path: Path | None) -> Prices:
    """Read the table; None: no price is known.

    Raises:
        SettingsError: it cannot be read, or is no table of prices; says where.
    """
    if path is None:
        return Prices()
    return Prices(load_table(path, _File, "RINGFENCE_PRICES_FILE").usd_per_1k_tokens)
