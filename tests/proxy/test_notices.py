"""What changes while the proxy runs is on the record, and never in the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from audit.ledger import Ledger
from proxy.notices import Notices
from proxy.policy.reload import Rejection, Reload, Verdict
from proxy.policy.switch import EgressSwitch
from tests.harness import records_in

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    ledger = Ledger.open(tmp_path / "ledger", keys_dir=tmp_path / "keys")
    yield ledger
    await ledger.close()


async def details(folder: Path, kind: str, at_least: int) -> list[object]:
    """The details of the events of a kind, once there are as many as expected."""
    for _ in range(200):
        found = [r["detail"] for r in records_in(folder / "ledger") if r["kind"] == kind]
        if len(found) >= at_least:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"no {kind} on the record")


async def test_a_version_is_on_the_record_whatever_thread_tells_of_it(
    ledger: Ledger, tmp_path: Path
) -> None:
    notices = Notices(ledger)
    await asyncio.to_thread(notices.reloaded, Reload(Verdict.LOADED, DIGEST, 2))
    rejected = Reload(Verdict.REJECTED, DIGEST, 2, Rejection.TESTS_FAILED, "line 3: canary")
    await asyncio.to_thread(notices.reloaded, rejected)
    assert await details(tmp_path, "policy.loaded", 1) == [{"digest": DIGEST, "revision": 2}]
    assert await details(tmp_path, "policy.rejected", 1) == [
        {"digest": DIGEST, "revision": 2, "reason": "tests_failed"}
    ]


async def test_each_turn_of_the_switch_is_on_the_record(ledger: Ledger, tmp_path: Path) -> None:
    switch = EgressSwitch(tmp_path)
    switch.turn_off("sec", "incident")
    watch = asyncio.create_task(Notices(ledger).watch(switch, interval_s=0.01))
    await details(tmp_path, "egress.switch", 1)
    switch.turn_on()
    assert await details(tmp_path, "egress.switch", 2) == [
        {"on": False, "by": "sec", "why": "incident"},
        {"on": True},
    ]
    watch.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watch


async def test_a_ledger_that_takes_nothing_does_not_end_the_watch(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "ledger", keys_dir=tmp_path / "keys")
    await ledger.close()
    watch = asyncio.create_task(Notices(ledger).watch(EgressSwitch(tmp_path), interval_s=0.01))
    EgressSwitch(tmp_path).turn_off("sec", "incident")
    await asyncio.sleep(0.1)
    assert not watch.done()
    watch.cancel()
