"""The inspector over real processes: deadlines, failures, replacements, silence."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import psutil
import pytest

from proxy.errors import InspectionError
from proxy.inspection.registry import DetectorConfig
from proxy.inspection.run import BATCH_CHARS, BATCH_TEXTS, ProcessInspector, batches
from proxy.types import Inspection, Origin, Role, Segment, UnscannableReason
from tests.factories import a_body

pytestmark = pytest.mark.slow

CARD = "Pay with 4111 1111 1111 1111, please."


@pytest.fixture
async def inspector() -> AsyncIterator[ProcessInspector]:
    made = ProcessInspector(num_workers=1, timeout_s=20.0, config=DetectorConfig(("en",)))
    await made.start()
    yield made
    await made.aclose()


def worker_pids(inspector: ProcessInspector) -> list[int]:
    return [worker.pid for worker in inspector._alive if worker.pid is not None]


def entities(inspection: Inspection) -> set[str]:
    return {finding.entity for finding in inspection.findings}


async def test_finds_and_covers_what_the_body_holds(inspector: ProcessInspector) -> None:
    inspection = await inspector.inspect(a_body(CARD, x_note="jane.doe@example-mail.com"))
    assert {"CREDIT_CARD", "EMAIL_ADDRESS"} <= entities(inspection)
    assert inspection.unscannable == ()
    coverage = inspection.coverage
    assert coverage.num_strings == coverage.num_inspected + coverage.num_structural
    assert ("presidio", dict(inspector.versions)["presidio"]) in inspection.detectors


async def test_same_findings_when_asked_again_from_the_cache(inspector: ProcessInspector) -> None:
    first = await inspector.inspect(a_body(CARD))
    again = await inspector.inspect(a_body(CARD))
    assert again.findings == first.findings
    assert again.coverage == first.coverage


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
async def test_is_unscannable_when_the_worker_is_lost_and_well_right_after(
    blow: signal.Signals,
) -> None:
    inspector = ProcessInspector(num_workers=1, timeout_s=3.0, config=DetectorConfig(("en",)))
    await inspector.start()
    try:
        (pid,) = worker_pids(inspector)
        os.kill(pid, blow)
        inspection = await inspector.inspect(a_body(CARD))
        reasons = {entry.reason for entry in inspection.unscannable}
        assert reasons <= {
            UnscannableReason.DETECTOR_FAILED,
            UnscannableReason.DETECTOR_TIMEOUT,
        }
        assert reasons
        assert inspection.coverage.num_inspected == 0
        after = await inspector.inspect(a_body(CARD))
        assert entities(after) >= {"CREDIT_CARD"}
        assert after.unscannable == ()
        assert not psutil.pid_exists(pid)
    finally:
        await inspector.aclose()


async def test_is_unscannable_when_a_hung_worker_does_not_even_take_a_large_input() -> None:
    inspector = ProcessInspector(num_workers=1, timeout_s=2.0, config=DetectorConfig(("en",)))
    await inspector.start()
    try:
        os.kill(worker_pids(inspector)[0], signal.SIGSTOP)
        inspection = await inspector.inspect(a_body("\u00e9a" * 120_000))
        assert {entry.reason for entry in inspection.unscannable} == {
            UnscannableReason.DETECTOR_TIMEOUT
        }
    finally:
        await inspector.aclose()


async def test_other_requests_go_on_while_one_client_hangs_up(inspector: ProcessInspector) -> None:
    task = asyncio.ensure_future(inspector.inspect(a_body("A long story. " * 2_000)))
    await asyncio.sleep(0.05)
    task.cancel()
    inspection = await inspector.inspect(a_body(CARD))
    assert "CREDIT_CARD" in entities(inspection)
    assert inspection.unscannable == ()


async def test_refuses_when_too_many_requests_wait(
    inspector: ProcessInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.inspection.run.MAX_REQUESTS", 1)
    first = asyncio.ensure_future(inspector.inspect(a_body("One. " * 200)))
    await asyncio.sleep(0)
    with pytest.raises(InspectionError):
        await inspector.inspect(a_body(CARD))
    await first


async def test_a_worker_stays_within_its_memory(inspector: ProcessInspector) -> None:
    for turn in range(5):
        await inspector.inspect(a_body(f"Turn {turn}: Mary Jones wrote from Boston. " * 200))
    (pid,) = worker_pids(inspector)
    assert psutil.Process(pid).memory_info().rss < 600 * 2**20


async def test_no_worker_outlives_the_inspector(inspector: ProcessInspector) -> None:
    (pid,) = worker_pids(inspector)
    await inspector.aclose()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_batches_keep_every_segment_in_order_and_stay_small() -> None:
    texts = ["a" * (37 * n % 9_000) for n in range(300)]
    segments = [
        Segment(index, "", Role.NONE, Origin.VALUE, text=text) for index, text in enumerate(texts)
    ]
    made = batches(segments)
    assert [segment for batch in made for segment in batch] == segments
    for batch in made:
        assert len(batch) <= BATCH_TEXTS
        assert len(batch) == 1 or sum(len(s.text or "") for s in batch) <= BATCH_CHARS
