"""The chat route in a real server: streams, departures, time limits, faults."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest

from tests.proxy.api.front_door import CANARY, DECISION, FrontDoor, front_door
from tests.proxy.api.test_gate import code, post, status


def body(text: str, **more: Any) -> bytes:
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    ).encode()


def wait_for(door: FrontDoor, note: str, count: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if door.notes().count(note) >= count:
            return True
        time.sleep(0.02)
    return False


FAULTS = {
    "local": (503, "local_unavailable"),
    "cloud": (502, "cloud_unavailable"),
    "audit": (503, "ledger_unwritable"),
    "bug": (500, "internal_error"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("kind", "expected"), FAULTS.items(), ids=FAULTS.keys())
def test_faults_are_http_errors_that_hold_no_text(
    door: FrontDoor, kind: str, expected: tuple[int, str], stream: bool
) -> None:
    got = door.raw(post(body(f"fail {kind}", stream=stream, user=CANARY)))
    assert (status(got), code(got)) == expected
    assert CANARY.encode() not in got
    assert b"x-request-id: req_" in got
    assert CANARY not in door.log()
    assert "Traceback" not in door.log()


@pytest.mark.parametrize(("kind", "expected"), FAULTS.items(), ids=FAULTS.keys())
def test_faults_after_a_keep_alive_are_error_events(
    door: FrontDoor, kind: str, expected: tuple[int, str]
) -> None:
    got = door.raw(post(body(f"sleep 0.5 fail {kind}", stream=True)))
    assert status(got) == 200
    assert b": keep-alive" in got
    data = next(line for line in got.split(b"\r\n") if line.startswith(b"data: "))
    assert json.loads(data.removeprefix(b"data: "))["error"]["code"] == expected[1]
    assert b"[DONE]" not in got
    assert CANARY.encode() not in got


def test_a_blocked_answer_keeps_its_status_and_decision(door: FrontDoor) -> None:
    for stream in (False, True):
        got = door.raw(post(body("block", stream=stream)))
        assert (status(got), code(got)) == (400, "blocked_by_policy")
        assert f"x-ringfence-decision-id: {DECISION}".encode() in got


def test_a_late_blocked_answer_is_an_error_event(door: FrontDoor) -> None:
    got = door.raw(post(body("sleep 0.5 block", stream=True)))
    assert b"blocked_by_policy" in got
    assert f": decision {DECISION}".encode() in got


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("seconds", [0.1, 0.6], ids=["before a keep-alive", "after it"])
def test_a_client_that_leaves_ends_the_answer(
    door: FrontDoor, stream: bool, seconds: float
) -> None:
    seen, cancelled = door.notes().count("seen"), door.notes().count("cancelled")
    with socket.create_connection(("127.0.0.1", door.port)) as wire:
        wire.sendall(post(body("sleep 60", stream=stream)))
        assert wait_for(door, "seen", seen + 1)
        time.sleep(seconds)
    assert wait_for(door, "cancelled", cancelled + 1)


def test_a_client_that_leaves_within_its_stream_does_no_harm(door: FrontDoor) -> None:
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", door.port)) as wire:
            wire.sendall(post(body("big 100000", stream=True)))
            wire.recv(100)
    assert status(door.raw(post(body("echo")))) == 200
    assert "Traceback" not in door.log()


def test_an_answer_that_takes_too_long_is_504() -> None:
    env = {"RINGFENCE_REQUEST_TIMEOUT_S": "0.5", "TEST_KEEP_ALIVE_S": "5"}
    with front_door(env) as door:
        for stream in (False, True):
            got = door.raw(post(body("sleep 60", stream=stream)))
            assert (status(got), code(got)) == (504, "request_timeout")
        assert door.notes().count("cancelled") == 2


def test_sixty_four_streams_at_once_are_all_told_whole(door: FrontDoor) -> None:
    got: list[bytes] = []
    data = post(body("sleep 0.5 big 2000", stream=True))
    threads = [threading.Thread(target=lambda: got.append(door.raw(data))) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 64
    for answer in got:
        assert status(answer) == 200
        assert answer.count(b"data: [DONE]") == 1
        assert answer.count(b"word ") == 2000


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b"null", "invalid_json"),
        (b'{"model":"m","model":"n"}', "duplicate_key"),
        (b'{"model":"m"}', "missing_required_parameter"),
        (b"\xef\xbb\xbf{}", "invalid_encoding"),
        (b'{"a":"\xff"}', "invalid_encoding"),
        (b"[" * 5000, "too_deep"),
    ],
)
def test_bad_bodies_are_400_and_reach_nobody(door: FrontDoor, raw: bytes, expected: str) -> None:
    seen = door.notes().count("seen")
    got = door.raw(post(raw))
    assert (status(got), code(got)) == (400, expected)
    assert door.notes().count("seen") == seen


def test_open_headers_are_the_same_for_every_answer(door: FrontDoor) -> None:
    def names(got: bytes) -> list[bytes]:
        head = got.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        return [line.partition(b":")[0] for line in head]

    pinned, other = door.raw(post(body("big 3"))), door.raw(post(body("echo")))
    assert names(pinned) == names(other)
    assert not any(b"ringfence-route" in name or b"confidence" in name for name in names(other))
