"""A cloud's answer that takes too long, and a client that reads slowly, or not at all.

Each has one outcome, the client learns why its answer ends, and the cloud is held back or let go.
The destination is one that takes no `stream_options`.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from demo.stand_in_cloud import Reply, StandInCloud, chunk, streamed
from tests.harness import RunningProxy, running_proxy, write_policy

pytestmark = pytest.mark.slow

QUESTION = "Name the longest river in Europe."
TIME_S = 3.0
FIRST = chunk({"role": "assistant", "content": "The"})
#: A chunk of 256 KiB; 100 of them are more than what may lie in sockets and pipes on the way.
LARGE = chunk({"content": "a" * 2**18})
NUM_LARGE = 100
END = (chunk({}, "stop"), b"data: [DONE]\n\n")


@pytest.fixture
def cloud(cloud: StandInCloud) -> StandInCloud:
    """The stand-in, with nothing told yet."""
    cloud.num_told = 0
    cloud.left.clear()
    return cloud


def proxy_with(
    time_s: float, cloud: StandInCloud, local_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    folder = tmp_path_factory.mktemp("proxy")
    uncounted = ("    models: [", "    stream_usage: false\n    models: [")
    env = {
        "RINGFENCE_LOCAL_BASE_URL": local_url,
        "RINGFENCE_REQUEST_TIMEOUT_S": str(time_s),
        "RINGFENCE_POLICY_FILE": str(write_policy(folder, cloud.base_url, [uncounted])),
    }
    with running_proxy(folder, cloud.base_url, env) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(
    _cloud: StandInCloud, local_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    """A proxy whose answers must be there within a few seconds."""
    yield from proxy_with(TIME_S, _cloud, local_url, tmp_path_factory)


@pytest.fixture(scope="module")
def patient(
    _cloud: StandInCloud, local_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    """A proxy that waits for as long as it takes."""
    yield from proxy_with(300.0, _cloud, local_url, tmp_path_factory)


def the_outcome(proxy: RunningProxy, before: int) -> dict[str, Any]:
    """The one outcome since there were ``before``, whatever else may come."""
    told: list[Any] = proxy.records_once("egress.outcome", before + 1)
    assert len(told) == len(proxy.records("egress.intent")) == before + 1
    return dict(told[-1])


@contextmanager
def reading_slowly(proxy: RunningProxy) -> Iterator[Callable[[], bytes]]:
    """A client with a small buffer that asked for a stream; each call reads a little of it."""
    message = {"role": "user", "content": QUESTION}
    body = {"model": "ringfence", "messages": [message], "max_tokens": 4, "stream": True}
    payload = json.dumps(body).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(payload)
    )
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.settimeout(60)
        wire.connect(("127.0.0.1", int(proxy.url.rpartition(":")[2])))
        wire.sendall(head + payload)
        yield lambda: wire.recv(2**16)


def told_until_it_stands(cloud: StandInCloud) -> int:
    """How many pieces the cloud got rid of, once it gets rid of no more."""
    deadline, last, since = time.monotonic() + 60, -1, time.monotonic()
    while time.monotonic() < deadline:
        if cloud.num_told != last:
            last, since = cloud.num_told, time.monotonic()
        elif last > 0 and time.monotonic() - since > 1.0:
            break
        time.sleep(0.05)
    return last


def test_an_answer_that_takes_too_long_ends_in_an_error_event(
    hasty: RunningProxy, cloud: StandInCloud, gate: threading.Event
) -> None:
    before = len(hasty.records("egress.outcome"))
    cloud.reply = lambda _: streamed(FIRST, gate, *END)
    message: Any = {"role": "user", "content": QUESTION}
    with hasty.client as client:
        stream = client.chat.completions.create(
            model="ringfence", messages=[message], max_tokens=4, stream=True
        )
        assert next(stream).choices[0].delta.content == "The"
        with pytest.raises(openai.APIError) as caught:
            next(stream)
    assert caught.value.code == "request_timeout"
    assert cloud.left.wait(20)  # the gate is still shut
    record = the_outcome(hasty, before)
    assert (record["error_type"], record["sent"]) == ("timeout", "yes")
    assert record["response"]["bytes"] == len(FIRST)
    sent = json.loads(cloud.requests[0].body)
    assert (sent["stream"], "stream_options" in sent) == (True, False)


def test_so_does_one_that_never_pauses(
    hasty: RunningProxy, cloud: StandInCloud, gate: threading.Event
) -> None:
    before = len(hasty.records("egress.outcome"))
    cloud.reply = lambda _: Reply(
        headers=(("content-type", "text/event-stream"),), pieces=_dribble(gate)
    )
    with reading_slowly(hasty) as read:
        told = b"".join(iter(read, b""))
    assert told.count(b'"The"') > 1
    assert b'"code":"request_timeout"' in told
    assert b"[DONE]" not in told
    assert cloud.left.wait(20)
    assert the_outcome(hasty, before)["error_type"] == "timeout"


def _dribble(end: threading.Event) -> Any:
    """A word ten times a second, until ``end``."""
    while not end.wait(0.1):
        yield FIRST


def test_a_client_that_reads_slowly_holds_the_cloud_back_and_gets_it_all(
    patient: RunningProxy, cloud: StandInCloud
) -> None:
    before = len(patient.records("egress.outcome"))
    cloud.reply = lambda _: streamed(FIRST, *[LARGE] * NUM_LARGE, *END)
    with reading_slowly(patient) as read:
        told = [read()]
        assert 0 < told_until_it_stands(cloud) < NUM_LARGE
        assert len(patient.records("egress.outcome")) == before
        told += iter(read, b"")
    whole = b"".join(told)
    assert whole.count(b"a") >= NUM_LARGE * 2**18
    assert b"data: [DONE]\n\n" in whole
    record = the_outcome(patient, before)
    assert (record["error_type"], record["finish_reason"]) == (None, "stop")
    assert record["response"]["bytes"] == sum(map(len, (FIRST, *END))) + NUM_LARGE * len(LARGE)
    assert (record["prompt_tokens"], record["completion_tokens"], record["cost_usd"]) == (
        0,
        0,
        None,
    )
    assert not cloud.left.is_set()


def test_a_client_that_reads_no_more_does_not_keep_the_cloud(
    hasty: RunningProxy, cloud: StandInCloud
) -> None:
    before = len(hasty.records("egress.outcome"))
    cloud.reply = lambda _: streamed(FIRST, *[LARGE] * NUM_LARGE, *END)
    with reading_slowly(hasty) as read:
        told = [read()]
        assert cloud.left.wait(30)  # while nobody reads
        record = the_outcome(hasty, before)
        assert 0 < cloud.num_told < NUM_LARGE
        told += iter(read, b"")
    assert b'"code":"request_timeout"' in told[-1]
    assert b"[DONE]" not in b"".join(told)
    assert (record["error_type"], record["sent"]) == ("timeout", "yes")
    assert record["response"]["bytes"] < NUM_LARGE * len(LARGE)
    assert len(hasty.records("egress.outcome")) == before + 1


def test_a_slow_client_that_leaves_ends_it(patient: RunningProxy, cloud: StandInCloud) -> None:
    before = len(patient.records("egress.outcome"))
    cloud.reply = lambda _: streamed(FIRST, *[LARGE] * NUM_LARGE, *END)
    with reading_slowly(patient) as read:
        read()
        assert 0 < told_until_it_stands(cloud) < NUM_LARGE
    assert cloud.left.wait(20)
    assert the_outcome(patient, before)["error_type"] == "client_abort"
