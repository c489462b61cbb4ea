"""Malformed requests through the whole proxy: refused, nothing at the cloud, nothing lost."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from demo.stand_in_cloud import StandInCloud
from tests.harness import RunningProxy, running_proxy
from tests.proxy.api.front_door import CANARY, read_all
from tests.proxy.api.test_answer import body
from tests.proxy.api.test_gate import code, post, status
from tests.proxy.api.test_protocol import BAD_FRAMING

pytestmark = pytest.mark.slow

CARD = "4111 1111 1111 1111"


@pytest.fixture(scope="module")
def cloud() -> Iterator[StandInCloud]:
    with StandInCloud() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(
    cloud: StandInCloud, local_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProxy]:
    env = {"RINGFENCE_LOCAL_BASE_URL": local_url}
    with running_proxy(tmp_path_factory.mktemp("whole"), cloud.base_url, env) as running:
        yield running


def raw(proxy: RunningProxy, data: bytes, timeout_s: float = 60) -> bytes:
    port = int(proxy.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as wire:
        wire.sendall(data)
        return read_all(wire)


CLEAN = '"messages":[{"role":"user","content":"hi"}]'
MALFORMED: dict[str, tuple[bytes, int]] = {
    "duplicate messages": (
        f'{{"model":"ringfence",{CLEAN},"messages":[{{"role":"user","content":"{CARD}"}}]}}'.encode(),
        400,
    ),
    "duplicate as escape": (rf'{{"model":"ringfence",{CLEAN},"mess\u0061ges":[]}}'.encode(), 400),
    "100 deep": (b'{"model":"ringfence","x":' + b"[" * 100 + b"]" * 100 + b"}", 400),
    "half a pair": (rf'{{"model":"\ud800",{CLEAN}}}'.encode(), 400),
    "NaN": (f'{{"model":"ringfence",{CLEAN},"temperature":NaN}}'.encode(), 400),
    "cut": (f'{{"model":"ringfence",{CLEAN}'.encode(), 400),
    "BOM": (b"\xef\xbb\xbf" + body("hi"), 400),
    "UTF-16": (body("hi").decode().encode("utf-16"), 400),
    "wrong type": (body("hi", max_tokens="x"), 400),
    "unknown model": (body("hi").replace(b'"m"', f'"{CANARY}"'.encode()), 404),
    "unknown role": (body("hi").replace(b'"user"', f'"{CANARY}"'.encode()), 400),
    "too large": (body("a" * 11 * 2**20), 413),
}


@pytest.mark.parametrize(("data", "expected"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_bodies_are_refused_and_nothing_leaves(
    proxy: RunningProxy, cloud: StandInCloud, data: bytes, expected: int
) -> None:
    got = raw(proxy, post(data))
    assert status(got) == expected
    assert code(got)
    assert CANARY.encode() not in got
    assert cloud.requests == []
    assert proxy.records("egress.intent") == []


def test_doubtful_framing_is_refused_and_nothing_leaves(
    proxy: RunningProxy, cloud: StandInCloud
) -> None:
    for name, data in BAD_FRAMING.items():
        assert status(raw(proxy, data)) in (400, 413), name
    assert cloud.requests == []
    assert proxy.records("decision") == []


def test_nothing_of_a_refused_request_is_written(proxy: RunningProxy) -> None:
    for data in (
        post(path=b"/v1/chat/completions?q=" + CANARY.encode()),
        post(
            more=b"X-Note: " + CANARY.encode() + b"\r\nAuthorization: " + CANARY.encode() + b"\r\n"
        ),
        post(host=b"Host: " + CANARY.encode() + b"\r\n"),
        post(json.dumps({CANARY: CANARY}).encode()),
    ):
        raw(proxy, data)
    written = proxy.everything_written()
    assert CANARY.encode() not in written
    assert b"Traceback" not in written


def test_a_client_that_leaves_is_on_the_record_and_nothing_leaves(
    proxy: RunningProxy, cloud: StandInCloud
) -> None:
    decided, sent = len(proxy.records("decision")), len(cloud.requests)
    port = int(proxy.url.rpartition(":")[2])
    long = body("Tell a very long story.", max_tokens=400).replace(b'"m"', b'"ringfence"')
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall(post(long))
        time.sleep(1)
    deadline = time.monotonic() + 30
    while len(proxy.records("decision")) == decided and time.monotonic() < deadline:
        time.sleep(0.1)
    records = proxy.records("decision")
    assert len(records) == decided + 1
    assert b'"client_gone"' in json.dumps(records[-1]).encode()
    assert len(cloud.requests) == sent
    assert proxy.ask("Still there?").choices
