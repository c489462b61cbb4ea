"""What changes while the proxy runs is on the record, and never in the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from audit.ledger import Ledger
from audit.retention import days_on_record
from proxy.commands.notices import Notices, record_refusal, tell_age
from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.local.tier import LocalTier
from proxy.policy.approval import Approved
from proxy.policy.language import RecordPolicy
from proxy.policy.refusal import Rejection
from proxy.policy.reload import Reload, Verdict
from proxy.policy.staging import Stage, StageChange
from proxy.policy.switch import EgressSwitch
from proxy.routing.calibration import MAX_AGE_DAYS
from tests.harness import records_in
from tests.proxy.local.test_openai_http import an_answer, endpoint, logprobs_of
from tests.proxy.routing.tables import a_chain

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
    kept = Reload(Verdict.LOADED, DIGEST, 3, record=RecordPolicy(retention_days=400))
    await asyncio.to_thread(notices.reloaded, kept)
    both = RecordPolicy(retention_days=400, train_on_answers=True)
    learns = Reload(Verdict.LOADED, DIGEST, 4, record=both)
    await asyncio.to_thread(notices.reloaded, learns)
    rejected = Reload(Verdict.REJECTED, DIGEST, 2, Rejection.TESTS_FAILED, "line 3: canary")
    await asyncio.to_thread(notices.reloaded, rejected)
    assert await details(tmp_path, "policy.loaded", 3) == [
        {"digest": DIGEST, "revision": 2},
        {"digest": DIGEST, "revision": 3, "retention_days": 400},
        {"digest": DIGEST, "revision": 4, "retention_days": 400, "train_on_answers": True},
    ]
    assert days_on_record(tmp_path / "ledger")[0] == 400  # where `audit prune` reads it
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


async def test_what_the_local_server_gives_is_on_the_record_once_it_answers(
    ledger: Ledger, tmp_path: Path
) -> None:
    there = endpoint(an_answer(logprobs_of(0.0, 0.0)), status=503)
    async with there.running() as url:
        local = LocalTier(OpenAIHTTPBackend(url, "home"))
        learning = asyncio.create_task(Notices(ledger).learn(local, "home", interval_s=0.01))
        while len(there.bodies) < 2:
            await asyncio.sleep(0.01)
        there.status = 200
        await learning
        await local.aclose()
    (told,) = await details(tmp_path, "local.probed", 1)
    assert told == {
        "model": "home",
        "logprobs": "constant",
        "with_tools": "constant",
        "with_stream": "constant",
        "alternatives": False,
    }


async def test_who_signed_a_version_is_on_the_record(ledger: Ledger, tmp_path: Path) -> None:
    approved = Approved(("ben@x.org", "jane@x.org", "zoe@x.org"), looser=True)
    Notices(ledger).reloaded(Reload(Verdict.LOADED, DIGEST, 2, approved=approved))
    assert await details(tmp_path, "policy.approved", 1) == [
        {"digest": DIGEST, "signed_by": "ben@x.org jane@x.org", "num_signed": 3, "looser": True}
    ]


async def test_what_becomes_of_a_candidate_is_on_the_record(ledger: Ledger, tmp_path: Path) -> None:
    notices = Notices(ledger)
    notices.staged(StageChange(Stage.SHARE, DIGEST, 10, "2026-12-01T00:00:00+00:00"))
    notices.staged(StageChange(Stage.REFUSED, reason="state_unreadable", problem="canary: {"))
    learns = RecordPolicy(train_on_answers=True)
    notices.staged(StageChange(Stage.SHADOW, DIGEST, record=learns))
    notices.staged(StageChange(Stage.SHARE, DIGEST, 1, record=learns))
    shadow, share = (await details(tmp_path, "policy.staged", 4))[2:]
    assert "train_on_answers" not in str(shadow)  # it decides nothing
    assert "'train_on_answers': True" in str(share)
    assert (await details(tmp_path, "policy.staged", 4))[:2] == [
        {"stage": "share", "digest": DIGEST, "share": 10, "until": "2026-12-01T00:00:00+00:00"},
        {"stage": "refused", "reason": "state_unreadable"},
    ]


def opened(folder: Path) -> Ledger:
    return Ledger.open(folder / "elsewhere", keys_dir=folder / "elsewhere-keys")


async def test_a_refusal_at_the_start_goes_to_the_ledger_that_would_have_been_opened(
    tmp_path: Path,
) -> None:
    record_refusal(lambda: opened(tmp_path), Rejection.UNSIGNED)  # also within a running loop
    kinds = {str(r["kind"]): r for r in records_in(tmp_path / "elsewhere")}
    assert kinds["policy.rejected"]["detail"] == {"reason": "unsigned", "at": "start"}
    assert "chain.closed" in kinds


def test_a_refusal_that_cannot_be_recorded_is_a_refusal_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("a file")
    record_refusal(lambda: opened(tmp_path), Rejection.UNSIGNED)
    assert (tmp_path / "elsewhere").read_text() == "a file"  # nothing was put in its place


async def test_a_calibration_that_grows_old_while_the_proxy_runs_is_told_of() -> None:
    grows_old_at = datetime.now(UTC) + timedelta(seconds=1)
    made = a_chain("big", made_at=(grows_old_at - timedelta(days=MAX_AGE_DAYS)).isoformat())
    early: list[object] = []
    with capture_logs() as logs:
        task = asyncio.create_task(tell_age(made, 0.01))
        while datetime.now(UTC) < grows_old_at:
            early = list(logs)
            await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            while not logs:
                await asyncio.sleep(0.01)
        task.cancel()
    assert early == []
    assert (logs[0]["event"], logs[0]["code"]) == ("calibration_is_old", made.id)
