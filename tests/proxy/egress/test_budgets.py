"""Budgets over a real file: every day and month, every team, every process, and every restart."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.egress.budgets import Budget, Budgets, BudgetStore, BudgetStoreError, load_budgets
from proxy.errors import SettingsError
from tests.harness import ROOT

#: 2026-11-25 00:00 UTC
DAY = 1_795_564_800.0
FILE = """overall: {day_usd: 10, month_usd: 100}
teams:
  emea: {day_usd: 4}
each_other_team: {month_usd: 2.5}
max_output_tokens: 500
"""


def a_store(
    folder: Path, budgets: Budgets, clock: Callable[[], float] = lambda: DAY
) -> BudgetStore:
    return BudgetStore(folder / "budgets.sqlite3", budgets, clock)


def budgets_of(folder: Path, text: str = FILE) -> Budgets:
    (folder / "budgets.yaml").write_text(text)
    return load_budgets(folder / "budgets.yaml")


async def test_each_team_has_its_own_and_all_share_one(tmp_path: Path) -> None:
    store = a_store(tmp_path, budgets_of(tmp_path))
    assert (await store.left("emea")).nano == 4 * 10**9
    assert (await store.left("apac")).nano == int(2.5 * 10**9)
    assert await store.reserve("emea", Decimal("4.000000001")) is None
    assert (await store.left("emea")).share == 1.0  # a refusal takes nothing
    assert await store.reserve("emea", Decimal(4)) is not None
    assert await store.reserve("emea", Decimal("0.000000001")) is None
    for team in ("apac", "latam"):
        assert await store.reserve(team, Decimal("2.5")) is not None
    assert await store.reserve("mars", Decimal("1.1")) is None  # 9 of the day's 10 are gone
    assert (await store.left("mars")).nano == 10**9
    assert (await store.left("mars")).share == pytest.approx(0.1)
    store.close()


async def test_a_day_and_a_month_begin_anew_in_utc(tmp_path: Path) -> None:
    now = [DAY + 86_399.0]
    store = a_store(tmp_path, Budgets(overall=Budget(day_usd=Decimal(1), month_usd=Decimal(2))),
                    lambda: now[0])  # fmt: skip
    taken = await store.reserve("a", Decimal(1))
    assert taken is not None
    assert await store.reserve("a", Decimal("0.5")) is None
    now[0] += 1.0
    assert await store.reserve("a", Decimal(1)) is not None
    now[0] += 86_400.0
    assert await store.reserve("a", Decimal("0.1")) is None  # the month's two are gone
    await store.settle(taken, Decimal("0.25"))  # into the day and the month it came from
    assert (await store.left("a")).nano == int(0.75 * 10**9)
    now[0] += 86_400.0 * 6
    assert (await store.left("a")).nano == 10**9  # December
    store.close()


async def test_a_restart_forgets_nothing_and_what_was_cut_off_stays_taken(tmp_path: Path) -> None:
    budgets = Budgets(overall=Budget(day_usd=Decimal(1)))
    before = a_store(tmp_path, budgets)
    assert await before.reserve("a", Decimal("0.75")) is not None
    before.close()
    after = a_store(tmp_path, budgets)
    assert (await after.left("a")).nano == 250_000_000
    after.close()


async def test_what_it_cost_beyond_the_bound_is_taken_as_well(tmp_path: Path) -> None:
    store = a_store(tmp_path, Budgets(overall=Budget(day_usd=Decimal(1))))
    taken = await store.reserve("a", Decimal("0.5"))
    assert taken is not None
    await store.settle(taken, Decimal(3))
    assert await store.left("a") == await store.left("b")
    assert ((await store.left("a")).nano, (await store.left("a")).share) == (0, 0.0)
    store.close()


TAKE = """
import asyncio, sys
from decimal import Decimal
from pathlib import Path
from proxy.egress.budgets import Budget, Budgets
from tests.proxy.egress.test_budgets import a_store

async def main():
    store = a_store(Path(sys.argv[1]), Budgets(overall=Budget(day_usd=Decimal(1))))
    async def one(number):
        taken = await store.reserve("a", Decimal("0.01"))
        if taken is not None and number % 2:
            await store.settle(taken, Decimal("0.005"))
            return 5
        return 10 if taken is not None else 0
    print(sum(await asyncio.gather(*(one(number) for number in range(100)))))

asyncio.run(main())
"""


async def test_processes_never_take_more_than_there_is(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TAKE, str(tmp_path)]
    workers = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    spent = [
        int((await asyncio.to_thread(worker.communicate, timeout=60))[0]) for worker in workers
    ]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    store = a_store(tmp_path, Budgets(overall=Budget(day_usd=Decimal(1))))
    left = (await store.left("a")).nano
    store.close()
    assert left == 10**9 - sum(spent) * 10**6  # every one was counted, and once
    # Some of the 300 were refused, as less than one was left; what was taken by then may all have
    # been settled at half since.
    assert 0 <= left <= 505 * 10**6


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, 400), st.integers(0, 400)), max_size=30
    )
)
@settings(max_examples=30, deadline=None)
def test_what_is_reserved_and_spent_is_never_more_than_the_budget(
    steps: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def run() -> None:
        budgets = Budgets(
            overall=Budget(day_usd=Decimal(1)), teams={"a": Budget(day_usd=Decimal("0.4"))}
        )
        store = a_store(tmp_path_factory.mktemp("budget"), budgets)
        spent = {"a": 0, "b": 0}
        for team, most, cost in steps:
            taken = await store.reserve(team, Decimal(most) / 1000)
            fits = spent["a"] + spent["b"] + most <= 1000 and (
                team == "b" or spent["a"] + most <= 400
            )
            assert (taken is not None) is fits
            if taken is not None:
                real = min(cost, most)
                await store.settle(taken, Decimal(real) / 1000)
                spent[team] += real
        assert (await store.left("b")).nano == (1000 - spent["a"] - spent["b"]) * 10**6
        store.close()

    asyncio.run(run())


async def test_a_store_that_fails_says_so_and_gives_nothing(tmp_path: Path) -> None:
    store = a_store(tmp_path, Budgets(overall=Budget(day_usd=Decimal(1))))
    store.close()
    for call in (store.left("a"), store.reserve("a", Decimal(1))):
        with pytest.raises(BudgetStoreError):
            await call
    (tmp_path / "file").touch()
    with pytest.raises(BudgetStoreError):
        a_store(tmp_path / "file", Budgets())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FILE.replace("10,", "0,"), "1:11"),
        (FILE.replace("10,", "-1,"), "1:11"),
        (FILE.replace("{day_usd: 4}", "{}"), "3:3"),
        (FILE.replace("day_usd: 4", "daily: 4"), "3:10"),
        (FILE.replace("500", "0"), "5:1"),
        (FILE.replace("500", "100000"), "5:1"),
        (FILE + "team: {}\n", "6:1"),
    ],
    ids=range(7),
)
def test_a_file_that_holds_no_budgets_is_refused_with_its_place(
    text: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="RINGFENCE_BUDGETS_FILE") as caught:
        budgets_of(tmp_path, text)
    assert says in caught.value.public_message


def test_the_example_of_the_guide_holds_budgets(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "costs.md").read_text()
    block = guide.partition("## Budgets")[2].partition("```yaml\n")[2].partition("```")[0]
    assert budgets_of(tmp_path, block).overall is not None
