"""The pin store over a real file."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from proxy.pins import PinStore, PinStoreError, carried_texts, pinnable_texts
from proxy.types import Coverage, Finding, Inspection, Origin, Role, Segment
from tests.factories import a_finding

ANSWER = "Your results came back, and the dose should be doubled."


def a_store(folder: Path, now: list[float] | None = None, ttl_s: float = 100.0) -> PinStore:
    clock = now if now is not None else [0.0]
    return PinStore(folder / "pins.sqlite3", b"k" * 32, ttl_s, clock=lambda: clock[0])


async def test_finds_what_was_remembered_whatever_its_case_and_spaces(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    await store.remember([ANSWER], "dec_1")
    assert await store.find([ANSWER]) == "dec_1"
    assert await store.find(["something else entirely", f"  {ANSWER.upper()}\n"]) == "dec_1"
    assert await store.find([ANSWER[:-1]]) is None
    store.close()


async def test_forgets_after_the_set_time(tmp_path: Path) -> None:
    now = [0.0]
    store = a_store(tmp_path, now)
    await store.remember([ANSWER], "dec_1")
    now[0] = 99.0
    assert await store.find([ANSWER]) == "dec_1"
    now[0] = 100.0
    assert await store.find([ANSWER]) is None
    store.close()


async def test_short_messages_pin_nobody(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    await store.remember(["Yes, thank you."], "dec_1")
    assert await store.find(["Yes, thank you."]) is None
    store.close()


async def test_two_processes_share_the_pins(tmp_path: Path) -> None:
    first, second = a_store(tmp_path), a_store(tmp_path)
    await asyncio.gather(
        *(first.remember([f"{ANSWER} {n}"], f"dec_{n}") for n in range(20)),
        *(second.remember([f"{ANSWER} {n}"], f"dec_{n}") for n in range(20, 40)),
    )
    assert await first.find([f"{ANSWER} 39"]) == "dec_39"
    assert await second.find([f"{ANSWER} 0"]) == "dec_0"
    first.close()
    second.close()


async def test_the_file_holds_no_text_and_is_private(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    await store.remember([ANSWER], "dec_1")
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
        lambda: store.find([ANSWER]),
        lambda: store.remember([ANSWER], "dec_1"),
    ]
    for call in calls:
        with pytest.raises(PinStoreError) as caught:
            await call()
        assert caught.value.__context__ is None
        assert "dose" not in str(caught.value)
    store.close()


def an_inspection(findings: tuple[Finding, ...]) -> Inspection:
    said = [
        (Role.SYSTEM, "You are the assistant of a clinic."),
        (Role.ASSISTANT, "How can I help you today, please?"),
        (Role.USER, "I am Jane Doe, and I feel dizzy."),
        (Role.ASSISTANT, "Your results say that it is serious."),
        (Role.USER, "What should I do about it now?"),
    ]
    segments = tuple(
        Segment(index, "p", role, Origin.VALUE, text=text)
        for index, (role, text) in enumerate(said)
    )
    return Inspection(segments, findings, (), Coverage(5, 5, 0, 0), (), (), 0.0)


def test_pins_what_was_said_since_the_secret_was_told() -> None:
    inspection = an_inspection((a_finding(segment=2),))
    assert pinnable_texts(inspection) == ("Your results say that it is serious.",)
    assert len(carried_texts(inspection)) == 5
