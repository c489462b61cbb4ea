"""The pin store over a real file."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.pins.quotes import run_traces, whole_trace
from proxy.pins.store import PinStore, PinStoreError, answer_traces, carried_traces, pinned_traces
from proxy.types import Coverage, Finding, Inspection, Origin, Role, Segment
from tests.factories import a_finding

ANSWER = "Your results came back, and the dose should be doubled."


def a_store(folder: Path, now: list[float] | None = None, ttl_s: float = 100.0) -> PinStore:
    clock = now if now is not None else [0.0]
    return PinStore(folder / "pins.sqlite3", b"k" * 32, ttl_s, clock=lambda: clock[0])


async def remember(store: PinStore, text: str, decision_id: str) -> None:
    await store.remember(lambda: traces(text), decision_id)


async def find(store: PinStore, *texts: str) -> str | None:
    return await store.find(lambda: traces(*texts))


def traces(*texts: str) -> list[str]:
    """The whole texts; runs of words have tests of their own."""
    return [trace for text in texts if (trace := whole_trace(text)) is not None]


async def test_finds_what_was_remembered_whatever_its_case_and_spaces(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    await remember(store, ANSWER, "dec_1")
    assert await find(store, ANSWER) == "dec_1"
    assert await find(store, "something else entirely", f"  {ANSWER.upper()}\n") == "dec_1"
    assert await find(store, ANSWER[:-2]) is None
    store.close()


async def test_forgets_after_the_set_time(tmp_path: Path) -> None:
    now = [0.0]
    store = a_store(tmp_path, now)
    await remember(store, ANSWER, "dec_1")
    now[0] = 99.0
    assert await find(store, ANSWER) == "dec_1"
    now[0] = 100.0
    assert await find(store, ANSWER) is None
    store.close()


async def test_what_is_kept_counts_from_when_it_is_gone_and_no_later_word_shortens_that(
    tmp_path: Path,
) -> None:
    now = [0.0]
    store = a_store(tmp_path, now)
    await store.remember(lambda: traces(ANSWER), "dec_1", 50.0)
    await remember(store, ANSWER, "dec_2")
    now[0] = 149.0
    assert await find(store, ANSWER) == "dec_1"
    now[0] = 150.0
    assert await find(store, ANSWER) is None
    store.close()


async def test_short_messages_pin_nobody(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    await remember(store, "Yes, thank you.", "dec_1")
    assert await find(store, "Yes, thank you.") is None
    store.close()


async def test_two_processes_share_the_pins(tmp_path: Path) -> None:
    first, second = a_store(tmp_path), a_store(tmp_path)
    await asyncio.gather(
        *(remember(first, f"{ANSWER} {n}", f"dec_{n}") for n in range(20)),
        *(remember(second, f"{ANSWER} {n}", f"dec_{n}") for n in range(20, 40)),
    )
    assert await find(first, f"{ANSWER} 39") == "dec_39"
    assert await find(second, f"{ANSWER} 0") == "dec_0"
    first.close()
    second.close()


async def test_the_file_holds_no_text_and_is_private(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    await remember(store, ANSWER, "dec_1")
    store.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"dose" not in stored
    assert b"dec_1" in stored
    mode = (tmp_path / "pins.sqlite3").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


async def test_a_store_that_fails_says_so_without_text(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "pins.sqlite3")) as db:
        db.execute("DROP TABLE pins")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: find(store, ANSWER),
        lambda: remember(store, ANSWER, "dec_1"),
    ]
    for call in calls:
        with pytest.raises(PinStoreError) as caught:
            await call()
        assert caught.value.__context__ is None
        assert "dose" not in str(caught.value)
    store.close()


async def test_finds_one_of_thousands_of_traces(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    await remember(store, ANSWER, "dec_1")
    others = [f"{ANSWER} {number}" for number in range(3_000)]
    assert await find(store, *others) is None
    assert await find(store, *others, ANSWER) == "dec_1"
    assert await find(store, ANSWER, *others) == "dec_1"
    assert await find(store) is None
    store.close()


def an_inspection(findings: tuple[Finding, ...]) -> Inspection:
    said = [
        (Role.SYSTEM, LETTER),
        (Role.ASSISTANT, "How can I help you today, please?"),
        (Role.USER, f"I am Jane Doe. {DIZZY}"),
        (Role.ASSISTANT, "Your results say that it is serious."),
        (Role.TOOL, PAGE),
        (Role.USER, "What should I do about it now?"),
    ]
    segments = tuple(
        Segment(index, "p", role, Origin.VALUE, text=text)
        for index, (role, text) in enumerate(said)
    )
    return Inspection(segments, findings, (), Coverage(6, 6, 0, 0), (), (), 0.0)


LETTER = "Every letter of the clinic ends with the opening hours of the ward in the north wing."
DIZZY = "Since yesterday morning the kitchen turns around three times whenever someone rings."
PAGE = "Dizzy spells often pass within days, writes the handbook of the national nursing school."
JANE = replace(a_finding(segment=2), start=5, end=13)


def test_pins_what_was_said_since_the_secret_was_told() -> None:
    kept = set(pinned_traces(an_inspection((JANE,)), [ANSWER], derived=False))
    assert {whole_trace(one) for one in ("Your results say that it is serious.", PAGE, ANSWER)} <= (
        kept
    )
    assert whole_trace("How can I help you today, please?") not in kept
    assert kept.isdisjoint(traces(LETTER, DIZZY))


def test_pins_runs_of_answers_and_not_those_of_pages_and_templates() -> None:
    news = "Double the dose of yellow tablets until next summer ends."
    answer = f"{LETTER} {DIZZY} {PAGE} {news}"
    kept = set(pinned_traces(an_inspection((JANE,)), [answer], derived=False))
    assert not kept.isdisjoint(run_traces([news]))
    for harmless in (LETTER, DIZZY, PAGE):
        assert kept.isdisjoint(run_traces([harmless]))
    assert kept == set(pinned_traces(an_inspection((JANE,)), [answer], derived=False))
    derived = set(pinned_traces(an_inspection((JANE,)), [answer], derived=True))
    assert not derived.isdisjoint(run_traces([LETTER]))


def test_pins_a_run_of_the_user_in_which_something_was_found() -> None:
    answer = f"Dear ward, Jane Doe. {DIZZY}"
    kept = set(answer_traces(an_inspection((JANE,)), [answer]))
    assert not kept.isdisjoint(run_traces([f"I am Jane Doe. {DIZZY}"]))
    assert kept.isdisjoint(run_traces([DIZZY]))


def test_a_request_carries_each_of_its_texts_and_the_runs_across_them() -> None:
    carried = set(carried_traces(an_inspection(())))
    assert set(traces(LETTER, PAGE)) <= carried
    assert set(run_traces([PAGE, "What should I do about it now?"])) <= carried


def test_lines_of_a_text_are_known_one_by_one_and_take_no_room_of_its_runs() -> None:
    words = [f"word{number}" for number in range(3100)]
    lines = [" ".join(words[at : at + 6]) for at in range(0, len(words), 6)]
    whole = " ".join(words)
    alone = set(answer_traces(an_inspection(()), [whole]))
    both = set(answer_traces(an_inspection(()), [whole, *lines]))
    assert both == alone | set(lines)
