"""The app as a whole: health, readiness, an orderly end, canaries in every place."""

from __future__ import annotations

import json

import pytest

from tests.proxy.api.front_door import CANARY, FrontDoor, front_door
from tests.proxy.api.test_answer import body
from tests.proxy.api.test_gate import post, status


def get(path: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path


def test_health_and_readiness_say_yes(door: FrontDoor) -> None:
    assert door.raw(get(b"/healthz")).endswith(b'{"status":"ok"}')
    assert door.raw(get(b"/readyz")).endswith(b'{"status":"ready","missing":[]}')


def test_readiness_says_what_is_missing() -> None:
    with front_door({"TEST_MISSING": "local,detectors"}) as door:
        got = door.raw(get(b"/readyz"))
        assert status(got) == 503
        assert json.loads(got.partition(b"\r\n\r\n")[2])["missing"] == ["local", "detectors"]
        assert status(door.raw(get(b"/healthz"))) == 200


def test_a_signal_ends_it_in_order() -> None:
    with front_door() as door:
        assert status(door.raw(post())) == 200
    assert door.process.returncode in (0, -15)
    assert door.notes()[0] == "opened"
    assert door.notes()[-1] == "closed"


PLACES = {
    "path": post(path=b"/v1/" + CANARY.encode()),
    "model path": get(b"/v1/models/" + CANARY.encode()),
    "query": post(path=b"/v1/chat/completions?q=" + CANARY.encode()),
    "key": post(more=b"Authorization: Bearer " + CANARY.encode() + b"\r\n"),
    "header": post(more=b"X-Note: " + CANARY.encode() + b"\r\n"),
    "header name": post(more=CANARY.encode() + b": x\r\n"),
    "host": post(host=b"Host: " + CANARY.encode() + b"\r\n"),
    "method": post().replace(b"POST", CANARY.encode(), 1),
    "type": post(content_type=b"Content-Type: " + CANARY.encode() + b"\r\n"),
    "coding": post(more=b"Content-Encoding: " + CANARY.encode() + b"\r\n"),
    "model": post(json.dumps({"model": CANARY, "messages": [{"role": 1}]}).encode()),
    "role": post(json.dumps({"model": "m", "messages": [{"role": CANARY}]}).encode()),
    "key of the body": post(body("fail bug", **{CANARY: CANARY})),
    "not JSON": post(CANARY.encode()),
    "duplicate": post(b'{"%b":1,"%b":2}' % ((CANARY.encode(),) * 2)),
    "half JSON": post(b'{"model":"' + CANARY.encode()),
    "content with a fault": post(body("fail audit", user=CANARY)),
    "wrong parameter": post(body("echo", stream=CANARY)),
}


@pytest.mark.parametrize("data", PLACES.values(), ids=PLACES.keys())
def test_a_canary_is_neither_answered_nor_logged(door: FrontDoor, data: bytes) -> None:
    got = door.raw(data)
    assert got.startswith(b"HTTP/1.1 ")
    assert CANARY.encode() not in got
    assert CANARY not in door.log()


def test_the_log_has_one_line_for_each_request(door: FrontDoor) -> None:
    before = door.log().count('"event": "http"')
    for data in (post(), get(b"/nowhere"), get(b"/healthz"), post(b"{")):
        door.raw(data)
    lines = [json.loads(line) for line in door.log().splitlines() if '"event": "http"' in line]
    assert len(lines) - before == 4
    assert [line["route"] for line in lines[-4:]] == [
        "chat.completions",
        "other",
        "healthz",
        "chat.completions",
    ]
    assert [line["http_status"] for line in lines[-4:]] == [200, 404, 200, 400]
