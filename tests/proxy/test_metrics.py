"""The counts: of the record's closed vocabulary, and of all server processes together."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from proxy.egress import attempt, cloud
from proxy.errors import CloudError
from proxy.metrics import CATALOG, LABELS, OUTCOMES, SHARED_DIR, Metrics, State, shared_folder
from proxy.records import decision_record
from proxy.types import (
    Response,
    Route,
    RouteReason,
    Target,
    Unscannable,
    UnscannableReason,
)
from tests.factories import (
    a_confidence,
    a_decision,
    a_draft,
    a_finding,
    a_request,
    an_inspection,
)

CANARY = "canary 4711"
CLOUD = Route(Target.CLOUD, RouteReason.LOW_CONFIDENCE)


def samples(exposition: bytes) -> dict[tuple[str, ...], float]:
    """From (name, label values in the order of their names) to value."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(exposition.decode())
        for sample in family.samples
    }


def test_counts_a_decision_as_it_is_recorded() -> None:
    metrics = Metrics("1.0")
    inspection = an_inspection(a_finding(), a_finding(), a_finding("IBAN_CODE"), texts=(CANARY,))
    inspection = replace(inspection, unscannable=(Unscannable(0, UnscannableReason.IMAGE),))
    outcome, laps = (CLOUD, a_confidence(-0.7)), (("inspection", 12.0), ("draft", 700.0))
    record = decision_record(a_request(), inspection, a_decision(), outcome, laps)
    metrics.decided(record)
    got = samples(metrics.exposition())
    asked = ("allow", "app", "low_confidence", "cloud")
    assert got["ringfence_decisions_total", *asked] == 1
    assert got["ringfence_findings_total", "PERSON"] == 2
    assert got["ringfence_findings_total", "IBAN_CODE"] == 1
    assert got["ringfence_unscannable_total", "image"] == 1
    assert got["ringfence_unscannable_total", "audio"] == 0
    assert got["ringfence_stage_seconds_sum", "draft"] == 0.7
    assert got["ringfence_confidence_count",] == 1
    assert b"canary" not in metrics.exposition()


def test_counts_answers_tokens_and_what_became_of_attempts() -> None:
    metrics = Metrics()
    metrics.answered(Response("dec", 200, {}, replace(CLOUD, degraded=True)))
    metrics.drafted(a_draft())
    metrics.failed("eu", "capped")
    metrics.failed("eu", CANARY)
    metrics.failed(CANARY + "\n}", "ok")
    got = samples(metrics.exposition())
    assert got["ringfence_answers_total", "true", "low_confidence", "cloud"] == 1
    assert got["ringfence_tokens_total", "prompt", "local"] == 5
    assert got["ringfence_cloud_attempts_total", "eu", "capped"] == 1
    assert got["ringfence_cloud_attempts_total", "eu", "other"] == 1
    assert got["ringfence_cloud_attempts_total", "other", "ok"] == 1


def test_knows_every_class_of_fault_that_the_egress_gives() -> None:
    import re

    sources = Path(cloud.__file__).read_text() + Path(attempt.__file__).read_text()
    assert CloudError("", error_type="timeout").upstream_error in OUTCOMES
    given = set(re.findall(r'error_type="(\w+)"', sources)) | {"status_4xx", "status_5xx"}
    assert given
    assert given <= OUTCOMES


def test_every_label_is_told_and_none_is_told_in_vain() -> None:
    assert {label for metric in CATALOG for label in metric.labels} == set(LABELS)


def test_shows_the_state() -> None:
    metrics = Metrics()
    metrics.show(State(False, 12.0, 7, 99.0, egress_is_on=True, ledger_is_writable=False))
    got = samples(metrics.exposition())
    assert got["ringfence_policy_last_reload_successful",] == 0
    assert got["ringfence_policy_last_reload_success_timestamp_seconds",] == 12
    assert got["ringfence_policy_revision",] == 7
    assert got["ringfence_policy_staged_until_timestamp_seconds",] == 99
    assert got["ringfence_egress_switch_on",] == 1
    assert got["ringfence_ledger_writable",] == 0


WORKER = """
import sys, time
from proxy.metrics import Metrics, State
metrics = Metrics()
metrics.answered_http("models", 200)
metrics.show(State(sys.argv[1] == "well", 1.0, int(sys.argv[2]), 0.0, True, True))
if sys.argv[3] == "asks":
    sys.stdout.buffer.write(metrics.exposition())
print("counted", flush=True)
sys.stdin.readline()
"""


def worker(*arguments: str) -> subprocess.Popen[bytes]:
    """A process that counts, and stays until its input ends."""
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", WORKER, *arguments], stdin=pipe, stdout=pipe)


def test_processes_share_their_counts_and_a_dead_one_leaves_only_counts(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as folder:
        assert os.environ[SHARED_DIR] == str(folder)
        with worker("sick", "3", "") as dead:
            dead.communicate()
        with worker("sick", "5", "") as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"counted\n"
            with worker("well", "9", "asks") as asked:
                text, _ = asked.communicate()
            other.communicate()
        with worker("well", "9", "asks") as alone:
            after, _ = alone.communicate()
    got = samples(text.removesuffix(b"counted\n"))
    assert got["ringfence_http_responses_total", "models", "200"] == 3
    assert got["ringfence_policy_last_reload_successful",] == 0
    assert got["ringfence_policy_revision",] == 5
    left = samples(after.removesuffix(b"counted\n"))
    assert left["ringfence_http_responses_total", "models", "200"] == 4
    assert left["ringfence_policy_last_reload_successful",] == 1


def test_the_shared_folder_is_private_gone_at_the_end_and_cleared_of_what_others_left(
    tmp_path: Path,
) -> None:
    left = tmp_path / "metrics" / "left"
    left.mkdir(parents=True)
    with shared_folder(tmp_path) as first, shared_folder(tmp_path) as second:
        assert not left.exists()
        assert first.exists()
        assert first.stat().st_mode & 0o077 == 0
        assert first != second
    assert list((tmp_path / "metrics").iterdir()) == []
    assert SHARED_DIR not in os.environ
