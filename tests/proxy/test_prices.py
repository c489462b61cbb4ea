"""Prices: read strictly, computed exactly, and unknown where they are not in the table."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import SettingsError
from proxy.prices import Price, Prices, load_prices
from tests.harness import ROOT

TABLE = """usd_per_1k_tokens:
  eu:
    gpt-4o-mini: {input: 0.00015, output: 0.0006}
    gpt-4o: {input: 0.0025, output: 0.01}
  us:
    gpt-4o: {input: 0.0025, output: 0.01}
    gpt-4o-mini: {input: 1, output: 0}
"""


def load(folder: Path, text: str) -> Prices:
    (folder / "prices.yaml").write_text(text)
    return load_prices(folder / "prices.yaml")


def test_a_table_is_read_as_it_stands(tmp_path: Path) -> None:
    prices = load(tmp_path, TABLE)
    price = prices.find("eu", "gpt-4o-mini")
    assert price == Price(input=Decimal("0.00015"), output=Decimal("0.0006"))
    assert price.of(1000, 2000) == Decimal("0.00135")
    assert prices.anywhere("gpt-4o") == prices.find("us", "gpt-4o") is not None


def test_what_is_not_in_the_table_is_unknown(tmp_path: Path) -> None:
    prices = load(tmp_path, TABLE)
    assert prices.find("eu", "gpt-4") is None
    assert prices.find("asia", "gpt-4o") is None
    assert prices.anywhere("gpt-4") is None
    assert prices.anywhere("gpt-4o-mini") is None  # it depends on where
    assert load_prices(None).find("eu", "gpt-4o") is None


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 10**9))
def test_a_cost_is_never_below_what_the_tokens_cost(p: int, c: int, nano: int) -> None:
    price = Price(input=Decimal(nano) / 10**9, output=Decimal(1) / 3 * 10)
    exact = Decimal(nano) * p / 10**12
    assert price.of(p, 0) >= exact
    assert price.of(p, 0) - exact < Decimal("1e-9")
    assert price.of(p, c) >= price.of(p, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TABLE.replace("0.0006", "-0.1"), "3:35"),
        (TABLE.replace("0.0006", "true"), "3:35"),
        (TABLE.replace("0.0006", "'1'"), "3:35"),
        (TABLE.replace("0.0006", "1e-4"), "3:35"),
        (TABLE.replace("0.0006", "1001"), "3:35"),
        (TABLE.replace(", output: 0.0006", ""), "3:5"),
        (TABLE.replace("output: 0.0006", "output: 1, cached: 1"), "3:"),
        (TABLE + "more: 1\n", "8:1"),
        (TABLE.replace("gpt-4o:", "gpt-4o-mini:"), "stands here twice"),
        ("", "prices.yaml:1:1"),
        ("- 1\n", "prices.yaml:1:1"),
    ],
    ids=range(11),
)
def test_a_table_that_is_none_is_refused_with_its_place(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(SettingsError, match="RINGFENCE_PRICES_FILE") as caught:
        load(tmp_path, text)
    assert says in caught.value.public_message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load_prices(tmp_path / "none.yaml")


def test_the_example_of_the_guide_is_a_table(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "costs.md").read_text()
    block = guide.partition("```yaml\n")[2].partition("```")[0]
    assert load(tmp_path, block).find("eu", "gpt-4o-mini") is not None
