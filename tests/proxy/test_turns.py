"""Turns and room: who is next and who may have more, whatever the clock says."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.turns import Room, Turns


class Queue:
    """Turns for things, with a note of who got one, in order."""

    def __init__(self, num_things: int = 1) -> None:
        self.turns: Turns[str] = Turns(num_things)
        self.served: list[str] = []
        self.tasks: list[asyncio.Task[str]] = []

    async def ask(self, caller: str, *, brief: bool = True) -> asyncio.Task[str]:
        """Wait in line for ``caller``; the line is as it will be when this returns."""

        async def wait() -> str:
            thing = await self.turns.take(caller, brief=brief)
            self.served.append(caller)
            return thing

        task = asyncio.create_task(wait())
        self.tasks.append(task)
        await settled()
        return task

    async def back(self, caller: str, cost: float = 1.0, *, brief: bool = True) -> None:
        """``caller`` gives the thing back."""
        self.turns.done(caller, cost, brief=brief)
        self.turns.add("thing")
        await settled()


async def settled() -> None:
    """Every task has come as far as it comes by itself."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_who_asks_for_little_comes_before_the_rest_of_one_who_asks_for_much() -> None:
    queue = Queue()
    queue.turns.add("thing")
    for _ in range(4):
        await queue.ask("much")
    await queue.ask("little")
    await queue.back("much")
    await queue.back("little", 0.01)
    await queue.ask("little")
    await queue.back("much")
    assert queue.served == ["much", "little", "much", "little"]


async def test_turns_go_by_what_they_cost_and_not_by_their_number() -> None:
    queue = Queue()
    queue.turns.add("thing")
    for caller in ("slow", "slow", "slow", "quick", "quick", "quick"):
        await queue.ask(caller)
    for cost in (9.0, 1.0, 1.0, 1.0, 9.0):
        await queue.back(queue.served[-1], cost)
    assert queue.served == ["slow", "quick", "quick", "quick", "slow", "slow"]


async def test_neither_a_past_alone_nor_a_long_absence_counts() -> None:
    queue = Queue()
    queue.turns.add("thing")
    await queue.ask("old")
    for _ in range(5):  # alone, at whatever cost
        await queue.ask("old")
        await queue.back("old", 100.0)
    await queue.ask("new")
    for _ in range(2):
        await queue.ask("new")
    await queue.ask("old")
    await queue.back("old", 1.0)
    await queue.back("new", 5.0)
    assert queue.served[-2:] == ["new", "old"]


async def test_with_several_things_one_who_holds_none_is_next() -> None:
    queue = Queue(2)
    for _ in range(2):
        queue.turns.add("thing")
    for caller in ("a", "a", "a", "b", "b"):
        await queue.ask(caller)
    assert queue.served == ["a", "a"]
    await queue.back("a", 0.0)  # it has cost nothing so far, but holds the other one
    assert queue.served == ["a", "a", "b"]


async def test_the_last_of_several_is_kept_for_what_is_brief() -> None:
    queue = Queue(2)
    for _ in range(2):
        queue.turns.add("thing")
    for caller in ("a", "b"):
        await queue.ask(caller, brief=False)
    assert queue.served == ["a"]
    await queue.ask("b")
    assert queue.served == ["a", "b"]
    await queue.back("b", 0.1)
    assert queue.served == ["a", "b"]  # one lies there, and a long one waits all the same
    await queue.back("a", brief=False)
    assert queue.served == ["a", "b", "b"]


async def test_one_that_is_lost_leaves_no_room_for_what_is_long_until_it_is_replaced() -> None:
    queue = Queue(2)
    for _ in range(2):
        queue.turns.add("thing")
    for _ in range(2):
        await queue.ask("a", brief=False)
    queue.turns.done("a", 1.0, brief=False)  # lost
    await settled()
    assert queue.served == ["a"]
    queue.turns.add("new")
    await settled()
    assert queue.served == ["a", "a"]


async def test_a_single_thing_is_for_all() -> None:
    queue = Queue(1)
    queue.turns.add("thing")
    await queue.ask("a", brief=False)
    assert queue.served == ["a"]


@pytest.mark.parametrize("given_up", ["while it waits", "as its turn comes"])
async def test_one_who_leaves_takes_nothing_along(given_up: str) -> None:
    queue = Queue()
    queue.turns.add("thing")
    await queue.ask("a")
    leaving = await queue.ask("b")
    await queue.ask("c")
    if given_up == "while it waits":
        leaving.cancel()
        await settled()
    queue.turns.done("a", 1.0)
    queue.turns.add("thing")
    leaving.cancel()
    await settled()
    assert queue.served == ["a", "c"]
    assert queue.turns.num_waiting == 0
    await queue.back("c")
    await queue.ask("d")
    assert queue.served == ["a", "c", "d"]


async def test_nothing_is_remembered_of_those_who_are_gone() -> None:
    queue = Queue()
    queue.turns.add("thing")
    for number in range(100):
        await queue.ask(f"caller {number}")
        await queue.back(f"caller {number}")
    assert (queue.turns._spent, queue.turns._waiting, queue.turns._held) == ({}, {}, {})


def test_one_alone_has_half_and_two_leave_a_third() -> None:
    room = Room(12)
    assert [room.take("a") for _ in range(7)] == [True] * 6 + [False]
    room = Room(12)
    taken = [(room.take("a"), room.take("b")) for _ in range(5)]
    assert taken == [(True, True)] * 4 + [(False, False)]
    assert room.take("c")


def test_room_of_one_caller_is_all_its_own_and_no_more() -> None:
    room = Room(3, shared=False)
    assert [room.take("a", 2), room.take("a", 2), room.take("a", 1)] == [True, False, True]
    assert not Room(0, shared=False).take("a")


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 40), st.booleans())))
def test_there_is_room_for_a_newcomer_whatever_others_do(
    deeds: list[tuple[str, int, bool]],
) -> None:
    room, held = Room(100), dict.fromkeys("abcd", 0)
    for caller, amount, takes in deeds:
        if takes and room.take(caller, amount):
            held[caller] += amount
        elif not takes and held[caller]:
            room.give_back(caller, held[caller])
            held[caller] = 0
        free = 100 - sum(held.values())
        assert max(held.values()) <= 100 - max(held.values())
        assert free > 0
    assert room.take("new", 1) or 100 - sum(held.values()) < 2
