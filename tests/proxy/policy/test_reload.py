"""The policy in force changes whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from pathlib import Path

import pytest

from proxy.errors import PolicyError
from proxy.policy import reload
from proxy.policy.decide import decide
from proxy.policy.model import Policy
from proxy.policy.refusal import Rejection
from proxy.policy.reload import PolicyKeeper, Reload, Verdict
from proxy.types import Action
from tests.factories import a_finding, an_inspection
from tests.proxy.policy.policies import HEAD, a_context, write

RULE = "rules: [{id: r, why: GDPR, when: {entities: [PERSON]}, action: %s}]\n"
A = "default: allow\n" + RULE % "local_only"
B = "default: allow\n" + RULE % "block"
BROKEN = "default: allow\nrulez: []\n"


def put(path: Path, text: str, revision: int = 3) -> None:
    """Change the file the way editors and deployments do: a new file in its place."""
    new = path.with_suffix(".new")
    new.write_text(HEAD.replace("revision: 3", f"revision: {revision}") + text)
    os.replace(new, path)


def test_does_not_start_with_a_broken_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        PolicyKeeper(write(tmp_path, BROKEN))


def test_takes_a_change_and_tells(tmp_path: Path) -> None:
    told: list[Reload] = []
    keeper = PolicyKeeper(path := write(tmp_path, A), told.append)
    before = keeper.current()
    assert keeper.check() is None
    put(path, B)
    assert keeper.check() == told[0]
    assert told[0].verdict is Verdict.LOADED
    assert keeper.current().digest == told[0].digest != before.digest
    assert before.content.rules[0].action is Action.LOCAL_ONLY


@pytest.mark.parametrize(
    ("text", "revision", "reason"),
    [
        (BROKEN, 4, Rejection.UNUSABLE),
        ("a: [", 4, Rejection.UNUSABLE),
        (B, 2, Rejection.OLDER_REVISION),
        (
            B + "tests: [{name: wrong, findings: [], expect: {action: block}}]\n",
            4,
            Rejection.TESTS_FAILED,
        ),
    ],
)
def test_keeps_the_last_good_one(
    tmp_path: Path, text: str, revision: int, reason: Rejection
) -> None:
    keeper = PolicyKeeper(path := write(tmp_path, A))
    before = keeper.current()
    put(path, text, revision)
    found = keeper.check()
    assert found is not None
    assert (found.verdict, found.reason) == (Verdict.REJECTED, reason)
    assert keeper.current() is before
    assert not keeper.healthy
    put(path, A, 4)
    keeper.check()
    assert keeper.healthy


def test_keeps_the_last_good_one_when_the_file_is_gone(tmp_path: Path) -> None:
    keeper = PolicyKeeper(path := write(tmp_path, A))
    path.unlink()
    found = keeper.check()
    assert found is not None
    assert found.verdict is Verdict.REJECTED
    assert keeper.current().content.rules


def test_sees_a_change_in_an_included_file(tmp_path: Path) -> None:
    more = write(tmp_path, RULE % "local_only", "more")
    keeper = PolicyKeeper(write(tmp_path, "default: allow\ninclude: [more]\n"))
    put(more, RULE % "block")
    assert keeper.check() is not None
    assert keeper.current().rules[0].action is Action.BLOCK


def test_every_decision_is_of_one_valid_version_while_the_file_flips(tmp_path: Path) -> None:
    path = write(tmp_path, A)
    digests = {PolicyKeeper(path).current().digest: Action.LOCAL_ONLY}
    put(path, B)
    digests[PolicyKeeper(path).current().digest] = Action.BLOCK
    keeper = PolicyKeeper(path)
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            for text in (A, BROKEN, B, "a: ["):
                put(path, text)
                keeper.check()

    flipper = threading.Thread(target=flip)
    flipper.start()
    try:
        decisions = [
            decide(keeper.current(), a_context(), an_inspection(a_finding()), decision_id="d")
            for _ in range(10_000)
        ]
    finally:
        stop.set()
        flipper.join()
    assert all(digests[d.policy_digest] is d.action for d in decisions)


def test_sees_a_change_made_while_the_files_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, A)
    load = reload._load

    def load_and_change(given: Path) -> Policy:
        policy = load(given)
        put(path, B)
        return policy

    monkeypatch.setattr(reload, "_load", load_and_change)
    keeper = PolicyKeeper(path)
    monkeypatch.undo()
    keeper.check()
    assert keeper.current().rules[0].action is Action.BLOCK


async def test_watches_until_cancelled(tmp_path: Path) -> None:
    keeper = PolicyKeeper(path := write(tmp_path, A))
    task = asyncio.create_task(keeper.watch(0.01))
    put(path, B)
    async with asyncio.timeout(10):
        while keeper.current().content.rules[0].action is not Action.BLOCK:
            await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_goes_on_watching_when_a_callback_fails(tmp_path: Path) -> None:
    def fail(_: Reload) -> None:
        raise OSError("the record is gone")

    keeper = PolicyKeeper(path := write(tmp_path, A), fail)
    task = asyncio.create_task(keeper.watch(0.01))
    async with asyncio.timeout(10):
        for text, action in ((B, Action.BLOCK), (A, Action.LOCAL_ONLY)):
            put(path, text)
            while keeper.current().content.rules[0].action is not action:
                await asyncio.sleep(0.01)
    assert not task.done()
    assert not keeper.healthy
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_reads_nothing_while_the_files_stand_still(tmp_path: Path) -> None:
    """The first check reads once more: a file may have changed while it was read at the start."""
    told: list[Reload] = []
    keeper = PolicyKeeper(write(tmp_path, A), told.append)
    assert keeper.check() is None
    before = keeper.current()
    assert keeper.check() is None
    assert keeper.current() is before
    assert told == []


def test_keeps_the_last_good_one_whatever_reading_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that nobody foresaw is named by its kind; its words may hold anything."""

    def fails(_: Path) -> Policy:
        raise ZeroDivisionError("a secret")

    keeper = PolicyKeeper(path := write(tmp_path, A))
    before = keeper.current()
    monkeypatch.setattr(reload, "_load", fails)
    put(path, A, 4)
    found = keeper.check()
    assert found is not None
    assert (found.verdict, found.reason) == (Verdict.REJECTED, Rejection.UNUSABLE)
    assert found.problem == f"{path}: cannot be read (ZeroDivisionError)"
    assert keeper.current() is before
