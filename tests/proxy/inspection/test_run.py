"""The inspector over real processes: deadlines, failures, replacements, silence."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import psutil
import pytest

from proxy.errors import InspectionError
from proxy.inspection.loading import CONFIG_VARIABLE
from proxy.inspection.recognizers import CUSTOM, Recognizer, Recognizers
from proxy.inspection.registry import DetectorConfig
from proxy.inspection.run import BATCH_CHARS, BATCH_TEXTS, ProcessInspector, _Order, batches
from proxy.turns import Room
from proxy.types import (
    Category,
    Inspection,
    JSONObject,
    Origin,
    Role,
    Segment,
    UnscannableReason,
)
from tests.factories import a_body
from tests.proxy.inspection.files.builders import a_docx, a_package

pytestmark = pytest.mark.slow

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
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


def test_a_process_that_is_handed_the_variable_down_loads_no_detectors() -> None:
    code = "import proxy.cli, proxy.assembly, sys; sys.exit('spacy' in sys.modules)"
    env = os.environ | {CONFIG_VARIABLE: DetectorConfig(("en",)).to_json()}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0


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


def a_file(data: bytes) -> JSONObject:
    url = f"data:{DOCX};base64,{base64.b64encode(data).decode()}"
    part: JSONObject = {"type": "file", "file": {"filename": "a.docx", "file_data": url}}
    return {"messages": [{"role": "user", "content": [part]}]}


async def test_reads_a_file_in_the_worker(inspector: ProcessInspector) -> None:
    inspection = await inspector.inspect(a_file(a_docx(CARD)))
    assert "CREDIT_CARD" in entities(inspection)
    assert inspection.unscannable == ()
    assert inspection.coverage.num_inspected == 2  # its name, and itself


async def test_a_file_is_unscannable_when_the_worker_is_lost_over_it() -> None:
    inspector = ProcessInspector(num_workers=1, timeout_s=3.0, config=DetectorConfig(("en",)))
    await inspector.start()
    try:
        os.kill(worker_pids(inspector)[0], signal.SIGSTOP)
        inspection = await inspector.inspect(a_file(a_docx("Hello there.")))
        reasons = {entry.reason for entry in inspection.unscannable}
        assert reasons == {UnscannableReason.DETECTOR_TIMEOUT}
        assert inspection.coverage.num_inspected == 0
        after = await inspector.inspect(a_file(a_docx("Hello there.")))
        assert after.unscannable == ()
    finally:
        await inspector.aclose()


async def test_a_file_that_unfolds_to_more_than_memory_costs_the_worker_nothing(
    inspector: ProcessInspector,
) -> None:
    pids = worker_pids(inspector)
    nested = "<x>" * 3_000_000
    for bomb in (a_package({"a.xml": nested}), a_package({"a.xml": b"\0" * (400 * 2**20)})):
        inspection = await inspector.inspect(a_file(bomb))
        assert {entry.reason for entry in inspection.unscannable} == {UnscannableReason.TOO_LONG}
    assert "CREDIT_CARD" in entities(await inspector.inspect(a_body(CARD)))
    assert worker_pids(inspector) == pids


async def test_refuses_when_too_many_requests_wait(
    inspector: ProcessInspector,
) -> None:
    inspector._room = Room(4)
    first = [asyncio.ensure_future(inspector.inspect(a_body("One. " * 200))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(InspectionError):
        await inspector.inspect(a_body(CARD))
    assert "CREDIT_CARD" in entities(await inspector.inspect(a_body(CARD), caller="another"))
    await asyncio.gather(*first)


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not so():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["text", "file"])
async def test_a_caller_with_one_request_does_not_wait_for_all_of_another(
    inspector: ProcessInspector, kind: str
) -> None:
    ended: list[str] = []

    async def ask(number: int, caller: str) -> None:
        text = f"Request {number} of {caller}: {CARD}"
        body = a_body(text) if kind == "text" else a_file(a_docx(text))
        inspection = await inspector.inspect(body, caller=caller)
        assert "CREDIT_CARD" in entities(inspection)
        ended.append(caller)

    (pid,) = worker_pids(inspector)
    os.kill(pid, signal.SIGSTOP)  # until all are in line
    try:
        asked = [asyncio.ensure_future(ask(number, "much")) for number in range(4)]
        await until(lambda: inspector._turns.num_waiting == 3)
        asked.append(asyncio.ensure_future(ask(4, "little")))
        await until(lambda: inspector._turns.num_waiting == 4)
    finally:
        os.kill(pid, signal.SIGCONT)
    await asyncio.gather(*asked)
    # In order of arrival it would be the last. Its turn is the second; two that were read one after
    # the other may change places on the way here.
    assert ended.index("little") < 3


def test_what_is_brief_is_short_and_no_file() -> None:
    def order(*segments: Segment) -> _Order:
        return _Order(list(segments), "k", 0.0)

    half = Segment(0, "", Role.NONE, Origin.VALUE, text="a" * (BATCH_CHARS // 2))
    file = Segment(0, "", Role.NONE, Origin.VALUE, blob=b"%PDF", media_type="application/pdf")
    assert order(half, half).is_brief
    assert not order(half, half, replace(half, text="a")).is_brief
    assert not order(file).is_brief


async def test_long_texts_of_many_callers_are_all_read_by_two_processes() -> None:
    inspector = ProcessInspector(num_workers=2, timeout_s=60.0, config=DetectorConfig(("en",)))
    await inspector.start()
    try:
        long = "There are boats. " * (BATCH_CHARS // 16)
        inspections = await asyncio.gather(
            *(inspector.inspect(a_body(f"{who}: {long}"), caller=who) for who in "abc")
        )
        assert [one.unscannable for one in inspections] == [(), (), ()]
        assert (inspector._turns.num_held, inspector._turns.num_waiting) == (0, 0)
        again = await inspector.inspect(a_body(f"d: {long}"), caller="a")
        assert again.unscannable == ()
    finally:
        await inspector.aclose()


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


BADGE = Recognizer("BADGE", Category.IDENTITY, 0.6, pattern=r"\bE-\d{6}\b")


async def test_reads_with_the_recognizers_of_each_request(inspector: ProcessInspector) -> None:
    body, ours = a_body("Ask E-104233."), Recognizers.of([BADGE])
    others = Recognizers.of([replace(BADGE, entity="STAFF_ID", score=0.7)])
    for recognizers, expected in ((ours, "BADGE"), (others, "STAFF_ID"), (ours, "BADGE")):
        inspection = await inspector.inspect(body, recognizers)
        assert expected in entities(inspection)
        assert len(entities(inspection) & {"BADGE", "STAFF_ID"}) == 1
        assert (CUSTOM, recognizers.version) in inspection.detectors
    inspection = await inspector.inspect(body)
    assert entities(inspection) & {"BADGE", "STAFF_ID"} == set()
    assert CUSTOM not in dict(inspection.detectors)


async def test_is_unscannable_when_a_worker_has_lost_the_recognizers_and_well_right_after(
    inspector: ProcessInspector,
) -> None:
    ours = Recognizers.of([BADGE])
    [worker] = inspector._alive
    worker._sets = [ours.version]  # it is taken to have them, and does not
    lost = await inspector.inspect(a_body("Ask E-104233."), ours)
    assert {entry.reason for entry in lost.unscannable} == {UnscannableReason.DETECTOR_FAILED}
    again = await inspector.inspect(a_body("Ask E-104233."), ours)
    assert again.unscannable == ()
    assert "BADGE" in entities(again)


async def test_a_fresh_worker_gets_the_recognizers(inspector: ProcessInspector) -> None:
    ours = Recognizers.of([BADGE])
    await inspector.inspect(a_body("Ask E-104233."), ours)
    os.kill(worker_pids(inspector)[0], signal.SIGKILL)
    await inspector.inspect(a_body("One that is lost: E-104234."), ours)
    found = await inspector.inspect(a_body("One that is not: E-104235."), ours)
    assert "BADGE" in entities(found)
