"""P7: what cannot be inspected is sensitive."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from demo.stand_in_cloud import StandInCloud
from tests.harness import RunningProxy

TINY_PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)
PARTS = {
    "image": {"type": "image_url", "image_url": {"url": TINY_PNG}},
    "remote image": {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
    "audio": {"type": "input_audio", "input_audio": {"data": "UklGRiQAAABXQVZF", "format": "wav"}},
    "stored file": {"type": "file", "file": {"file_id": "file-abc123"}},
    "file": {
        "type": "file",
        "file": {"filename": "a.zip", "file_data": "data:application/zip;base64,UEsDBAoACQAAAA=="},
    },
}


def ask(proxy: RunningProxy, content: object) -> int:
    body = {
        "model": "ringfence",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 4,
    }
    return proxy.post(json.dumps(body).encode()).status_code


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_cannot_be_read_stays_home(
    part: str, proxy: RunningProxy, cloud: StandInCloud
) -> None:
    status = ask(proxy, [{"type": "text", "text": "What is this?"}, PARTS[part]])
    assert status in (200, 400, 503)  # the small local model reads no images: refused by name
    assert cloud.requests == []
    decision = proxy.records("decision")[-1]
    assert decision["coverage"]["unscannable"]  # type: ignore[index]
    # Not only because this local model takes no images: the policy itself keeps it.
    assert decision["policy"]["action"] == "local_only"  # type: ignore[index]


@pytest.fixture
def detector_pids(proxy: RunningProxy) -> Iterator[list[int]]:
    """The detector processes of the proxy: the children of its fork server."""
    servers = [
        child
        for child in psutil.Process(proxy.process.pid).children(recursive=True)
        if "multiprocessing.forkserver" in " ".join(child.cmdline())
    ]
    pids = [child.pid for child in servers if child.ppid() in {other.pid for other in servers}]
    assert pids
    yield pids
    for pid in pids:
        if psutil.pid_exists(pid):
            psutil.Process(pid).send_signal(signal.SIGCONT)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_request_stays_home_while_the_detectors_are_down_and_leaves_once_they_are_back(
    blow: signal.Signals, proxy: RunningProxy, cloud: StandInCloud, detector_pids: list[int]
) -> None:
    for pid in detector_pids:
        psutil.Process(pid).send_signal(blow)
    # A text that was inspected before is known without a detector; so each question is a new one.
    questions = (f"Name river number {n} of Europe, {blow.name}." for n in itertools.count())
    assert ask(proxy, next(questions)) in (200, 503)
    assert cloud.requests == []
    deadline = time.monotonic() + 20
    while not cloud.requests and time.monotonic() < deadline:
        ask(proxy, next(questions))
    assert cloud.requests, "the detectors did not come back"
