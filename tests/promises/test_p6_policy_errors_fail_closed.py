"""P6: no usable policy, no start; a new version that does not hold leaves the last good one."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.stand_in_cloud import StandInCloud
from tests.harness import RunningProxy, running_proxy

pytestmark = pytest.mark.slow

QUESTION = "Name river number {} of Europe."
BROKEN = "version: 1\nrulez: []\n"


@pytest.fixture
def own(cloud: StandInCloud, local_url: str, tmp_path: Path) -> Iterator[RunningProxy]:
    """A proxy of its own for each test, with two server processes."""
    env = {"RINGFENCE_LOCAL_BASE_URL": local_url, "RINGFENCE_WORKERS": "2"}
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
    for number in range(1, 5):  # the last good one is in force: what may leave still may
        own.ask(QUESTION.format(number))
    assert len(cloud.requests) == 5
    write(policy, good.replace("\ndefault: allow\n", "\ndefault: local_only\n"))
    own_tests_fail = own.records_once("policy.rejected", 4)[-1]
    assert own_tests_fail["detail"]["reason"] == "tests_failed"  # type: ignore[index]


def test_every_decision_names_a_version_that_held_while_the_file_flips(
    own: RunningProxy, cloud: StandInCloud
) -> None:
    policy = own.data_dir.parent / "policy.yaml"
    good = policy.read_text()
    versions = (good, BROKEN, good + "\n# the same rules, another digest\n")
    stop = threading.Event()

    def flip() -> None:
        for version in itertools.cycle(versions):
            write(policy, version)
            if stop.wait(0.7):
                return

    flipping = threading.Thread(target=flip)
    flipping.start()
    try:
        deadline = time.monotonic() + 10
        asked = 0
        while time.monotonic() < deadline:
            assert own.ask(QUESTION.format(asked), max_tokens=1).choices
            asked += 1
    finally:
        stop.set()
        flipping.join()
    decisions = own.records("decision")
    assert len(decisions) == asked
    loaded = {str(r["detail"]["digest"]) for r in own.records("policy.loaded")}  # type: ignore[index]
    used = {str(r["policy"]["digest"]) for r in decisions}  # type: ignore[index]
    assert used <= loaded
    assert len(used) == 2
    assert own.records("policy.rejected")


def test_nothing_leaves_any_worker_once_the_switch_is_off(
    own: RunningProxy, cloud: StandInCloud
) -> None:
    off = own.data_dir / "egress.off"
    own.ask(QUESTION.format(0))
    assert len(cloud.requests) == 1
    off.write_text("")
    for number in range(1, 7):  # a fresh connection each: both workers get some
        assert own.ask(QUESTION.format(number), max_tokens=1).choices
    assert len(cloud.requests) == 1
    assert len(own.records_once("egress.switch", 2)) == 2
    off.unlink()
    own.ask(QUESTION.format(7), max_tokens=1)
    assert len(cloud.requests) == 2
