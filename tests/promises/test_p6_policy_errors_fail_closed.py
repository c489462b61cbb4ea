"""P6: no usable policy, no start; a new version that does not hold leaves the last good one."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.stand_in_cloud import StandInCloud
from tests.harness import RunningProxy, records_in, ringfence, running_proxy, write_policy
from tests.proxy.policy.signing import Persons

pytestmark = pytest.mark.slow

QUESTION = "Name river number {} of Europe."
BROKEN = "version: 1\nrulez: []\n"


@pytest.fixture
def own(cloud: StandInCloud, local_url: str, tmp_path: Path) -> Iterator[RunningProxy]:
    """A proxy of its own for each test, with two server processes."""
    env = {
        "RINGFENCE_LOCAL_BASE_URL": local_url,
        "RINGFENCE_WORKERS": "2",
        "RINGFENCE_EXPOSE_METRICS": "true",
    }
    with running_proxy(tmp_path, cloud.base_url, env) as running:
        yield running


def write(path: Path, text: str) -> None:
    """Put a new version in place, as an editor or a mounted volume does."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


@pytest.mark.parametrize("text", ["", BROKEN, "version: 1\npack: [", "\x00"])
def test_does_not_start_on_a_broken_policy(text: str, cloud: StandInCloud, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    env = {
        "RINGFENCE_POLICY_FILE": str(broken),
        "RINGFENCE_LOCAL_BASE_URL": "http://127.0.0.1:9/v1",
    }
    with (
        pytest.raises(AssertionError, match=r"broken\.yaml"),
        running_proxy(tmp_path, cloud.base_url, env),
    ):
        pass


def test_a_new_version_holds_on_every_worker_and_a_broken_one_on_none(
    own: RunningProxy, cloud: StandInCloud
) -> None:
    policy = own.data_dir.parent / "policy.yaml"
    good = policy.read_text()
    own.ask(QUESTION.format(0))
    assert len(cloud.requests) == 1
    write(policy, BROKEN)
    rejected = own.records_once("policy.rejected", 2)
    assert {str(r["detail"]) for r in rejected} == {str(rejected[0]["detail"])}
    # The last good one is in force: what may leave still may.
    asked = 1 + own.ask_every_worker(QUESTION.format(1))
    assert len(cloud.requests) == asked > 1
    write(policy, good.replace("\ndefault: allow\n", "\ndefault: local_only\n"))
    own_tests_fail = own.records_once("policy.rejected", 4)[-1]
    assert own_tests_fail["detail"]["reason"] == "tests_failed"  # type: ignore[index]
    # Whichever worker is asked, the counts are of both.
    for _ in range(4):
        counts = own.metrics()
        assert total(counts, "ringfence_decisions_total{") == asked
        assert total(counts, "ringfence_cloud_attempts_total{") == asked
        assert total(counts, "ringfence_policy_last_reload_successful ") == 0


def total(counts: bytes, start: str) -> float:
    """The sum of the samples whose line has this start."""
    lines = [line for line in counts.decode().splitlines() if line.startswith(start)]
    assert lines
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_every_decision_names_a_signed_version_that_held_while_the_file_flips(
    cloud: StandInCloud, local_url: str, tmp_path: Path
) -> None:
    persons = Persons(tmp_path / "trust", "jane")
    policy = write_policy(tmp_path, cloud.base_url)
    good = policy.read_text()
    persons.sign(policy, "jane")
    env = {
        "RINGFENCE_LOCAL_BASE_URL": local_url,
        "RINGFENCE_WORKERS": "2",
        "RINGFENCE_POLICY_FILE": str(policy),
        "RINGFENCE_POLICY_TRUST_DIR": str(persons.trust),
    }
    stop = threading.Event()

    def flip() -> None:
        for revision in itertools.count(2):
            newer = good.replace("\nrevision: 1\n", f"\nrevision: {revision}\n")
            aside = tmp_path / "aside" / policy.name
            aside.parent.mkdir(exist_ok=True)
            aside.write_text(newer)
            signature = persons.sign(aside, "jane")
            signature.replace(tmp_path / signature.name)
            for version in (newer, BROKEN, newer + "\n# nobody signed this\n"):
                write(policy, version)
                if stop.wait(1.2):
                    return

    with running_proxy(tmp_path, cloud.base_url, env) as signed:
        flipping = threading.Thread(target=flip)
        flipping.start()
        try:
            deadline = time.monotonic() + 12
            asked = 0
            while time.monotonic() < deadline:
                assert signed.ask(QUESTION.format(asked), max_tokens=1).choices
                asked += 1
        finally:
            stop.set()
            flipping.join()
        decisions = signed.records("decision")
        approved = {digest_of(r) for r in signed.records("policy.approved")}
        reasons = {str(r["detail"]["reason"]) for r in signed.records("policy.rejected")}  # type: ignore[index]
    assert len(decisions) == asked
    used = {str(r["policy"]["digest"]) for r in decisions}  # type: ignore[index]
    assert used <= approved
    assert len(used) > 1
    assert reasons == {"unusable", "unsigned"}


def digest_of(event: dict[str, object]) -> str:
    """The digest an event is about."""
    return str(event["detail"]["digest"])  # type: ignore[index]


def test_does_not_start_once_the_signature_is_stripped_and_says_so_on_the_record(
    cloud: StandInCloud, tmp_path: Path
) -> None:
    persons = Persons(tmp_path / "trust", "jane")
    env = {
        "RINGFENCE_LOCAL_BASE_URL": "http://127.0.0.1:9/v1",
        "RINGFENCE_POLICY_TRUST_DIR": str(persons.trust),
    }
    with (
        pytest.raises(AssertionError, match="policy sign"),
        running_proxy(tmp_path, cloud.base_url, env),
    ):
        pass
    (refusal,) = (
        r for r in records_in(tmp_path / "data" / "ledger") if r["kind"] == "policy.rejected"
    )
    assert refusal["detail"] == {"reason": "unsigned", "at": "start"}


def test_a_candidate_decides_on_every_worker_until_it_ends(
    own: RunningProxy, cloud: StandInCloud, tmp_path: Path
) -> None:
    policy = own.data_dir.parent / "policy.yaml"
    candidate = tmp_path / "next" / "policy.yaml"
    candidate.parent.mkdir()
    head, _, _ = policy.read_text().partition("\ntests:")
    candidate.write_text(head.replace("\ndefault: allow\n", "\ndefault: local_only\n"))
    env = {"RINGFENCE_POLICY_FILE": str(policy), "RINGFENCE_DATA_DIR": str(own.data_dir)}
    until = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}"
    staged = ringfence("policy", "stage", str(candidate), "--until", until, **env)
    assert staged.returncode == 0, staged.stderr
    own.records_once("policy.staged", 2)
    own.ask(QUESTION.format(0), max_tokens=1)
    assert len(cloud.requests) == 1  # in the shadow it decides nothing
    (shadow,) = (r["policy"]["shadow"] for r in own.records("decision"))  # type: ignore[index]
    assert shadow["action"] == "local_only"
    ringfence("policy", "rollout", str(candidate), "--share", "100", "--until", until, **env)
    own.records_once("policy.staged", 4)
    for number in range(1, 5):
        own.ask(QUESTION.format(number), max_tokens=1)
    assert len(cloud.requests) == 1
    decided = own.records("decision")[-1]["policy"]
    assert decided["digest"] == shadow["digest"]  # type: ignore[index]
    (own.data_dir / "policy" / "staged.json").write_text("{")
    told = own.records_once("policy.staged", 6)
    assert {str(r["detail"]["stage"]) for r in told} == {"shadow", "share", "refused"}  # type: ignore[index]
    own.ask(QUESTION.format(5), max_tokens=1)
    assert len(cloud.requests) == 2


def test_nothing_leaves_any_worker_once_the_switch_is_off(
    own: RunningProxy, cloud: StandInCloud
) -> None:
    off = own.data_dir / "egress.off"
    own.ask(QUESTION.format(0))
    assert len(cloud.requests) == 1
    off.write_text("")
    own.ask_every_worker(QUESTION.format(1))
    assert own.ask(QUESTION.format(2), max_tokens=1).choices
    assert len(cloud.requests) == 1
    assert len(own.records_once("egress.switch", 2)) == 2
    off.unlink()
    own.ask(QUESTION.format(7), max_tokens=1)
    assert len(cloud.requests) == 2
