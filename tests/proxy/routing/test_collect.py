"""Graded exchanges from answers on record; and the example of the guide is one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from proxy.errors import SettingsError
from proxy.prices import Price, Prices
from proxy.routing.catalog import build_estimator
from proxy.routing.collect import Collector, Progress, cost_of
from proxy.routing.rows import Graded, Item, read_items, table_of
from tests.fakes import FakeLocal
from tests.harness import ROOT


async def collect(items: list[Item], done: Progress) -> list[Graded]:
    collector = Collector(build_estimator("mean_logprob", None, FakeLocal()), None)
    return [one async for one in collector.collect(items, done)]


async def test_the_example_of_the_guide_is_graded(tmp_path: Path) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs/routing.md").read_text(), re.DOTALL)
    (tmp_path / "qa.jsonl").write_text(json.dumps(json.loads(block)))
    (graded,) = await collect(list(read_items(tmp_path / "qa.jsonl")), Progress(None, "x"))
    assert graded.features is not None
    assert replace(graded, features=None) == Graded(
        "q1", -0.25, False, True, True, 310.0, 2100.0, 0.0021
    )


async def test_what_is_graded_is_not_graded_again_unless_made_for_something_else(
    tmp_path: Path,
) -> None:
    known = Graded("q1", -9.0, True, False, True)
    Progress(tmp_path / "p", "this").keep(known)
    with (tmp_path / "p").open("a") as file:
        file.write('{"for": "this", "id": "torn')
    item = Item("q1", "q", ("a",), local={"answer": "a"}, cloud={"correct": True})
    assert await collect([item], Progress(tmp_path / "p", "this")) == [known]
    (other,) = await collect([item], Progress(tmp_path / "p", "that"))
    assert other == Graded("q1", None, False, True, True)
    assert Progress(tmp_path / "p", "that").find("q1") == other  # not glued to the torn line


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"id": 1, "question": "q", "answers": ["a"]}', '{"id":"1","question":"q"}']
)
def test_a_line_that_is_no_question_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text(f'{{"id": "1", "question": "q", "answers": ["a"]}}\n\n{line}\n')
    with pytest.raises(SettingsError, match=r"qa\.jsonl:3"):
        list(read_items(path))


OK = {"id": "1", "question": "q", "answers": ["a"]}


@pytest.mark.parametrize(
    "more",
    [
        {"local": "yes"},
        {"cloud": ["yes"]},
        {"clouds": 5},
        {"clouds": ["yes"]},
        {"choices": "yes"},
        {"local": {"correct": "false"}},
        {"cloud": {"correct": 0.5}},
        {"local": {"elapsed_ms": float("nan")}},
        {"cloud": {"cost_usd": float("inf")}},
        {"cloud": {"cost_usd": True}},
    ],
    ids=str,
)
def test_an_answer_on_record_of_another_form_is_named_and_not_shown(
    tmp_path: Path, more: dict[str, object]
) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text(json.dumps(OK | more))
    with pytest.raises(SettingsError, match=r"qa\.jsonl:1 is no question"):
        list(read_items(path))


def test_two_lines_with_one_id_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text(f"{json.dumps(OK)}\n{json.dumps(OK | {'question': 'r'})}\n")
    with pytest.raises(SettingsError, match=r"qa\.jsonl:2 has the id of a line above"):
        list(read_items(path))


@pytest.mark.parametrize(
    ("cloud", "cost"),
    [
        ({"cost_usd": 0.5}, 0.5),
        ({"cost_usd": 0.5, "model": "big", "prompt_tokens": 1000, "completion_tokens": 1}, 0.5),
        ({"model": "big", "prompt_tokens": 1000, "completion_tokens": 500}, 0.06),
        ({"model": "far", "prompt_tokens": 1, "completion_tokens": 1}, None),
        ({"model": "far", "destination": "us", "prompt_tokens": 1, "completion_tokens": 0}, 0.001),
        ({"model": "big", "destination": "us", "prompt_tokens": 1, "completion_tokens": 0}, None),
        ({"model": "huge", "prompt_tokens": 1, "completion_tokens": 1}, None),
        ({"model": "big", "prompt_tokens": 0, "completion_tokens": 1}, None),
        ({"model": "big", "prompt_tokens": 10**40, "completion_tokens": 1}, None),
        ({"cost_usd": -1}, None),
        ({}, None),
    ],
    ids=str,
)
def test_a_cost_is_the_recorded_one_or_by_the_price_table_or_unknown(
    cloud: dict[str, object], cost: float | None
) -> None:
    def price(thousand: str) -> Price:
        return Price(input=Decimal(thousand), output=Decimal("0.06"))

    prices = Prices({"eu": {"big": price("0.03"), "far": price("2")}, "us": {"far": price("1")}})
    assert cost_of(cloud, prices) == cost


def test_rows_without_a_cloud_answer_make_no_table() -> None:
    with pytest.raises(SettingsError, match="1 of 2 rows"):
        table_of([Graded("a", -1.0, False, True, True), Graded("b", -1.0, False, True)])
    with pytest.raises(SettingsError, match="no question"):
        table_of([])
