"""Files against a real front door: forms as they must not be, and slow readers of large files."""

from __future__ import annotations

import json
import socket
import time

import httpx2
import pytest

from tests.proxy.api.front_door import FrontDoor
from tests.proxy.api.test_gate import code, status

GOOD = {"purpose": (None, "batch"), "file": ("a.jsonl", b"x")}


def upload(door: FrontDoor, parts: object) -> httpx2.Response:
    with httpx2.Client(trust_env=False, timeout=60) as wire:
        return wire.post(f"{door.url}/v1/files", files=parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"file": GOOD["file"]}, "invalid_value"),
        ({"purpose": (None, "batch")}, "missing_required_parameter"),
        ({**GOOD, "other": (None, "1")}, "unsupported_parameter"),
        ({**GOOD, "other": ("b", b"x")}, "unsupported_parameter"),
        ({**GOOD, "expires_after[seconds]": (None, "3600")}, "invalid_value"),
        ([*GOOD.items(), ("file", ("b", b"x"))], "missing_required_parameter"),
        ([*GOOD.items(), ("purpose", (None, "batch"))], "invalid_form"),
    ],
)
def test_a_form_holds_one_file_its_purpose_and_its_life(
    parts: object, expected: str, door: FrontDoor
) -> None:
    got = upload(door, parts)
    assert (got.status_code, got.json()["error"]["code"]) == (400, expected)


def test_a_query_that_is_none_is_refused(door: FrontDoor) -> None:
    for query in ("limit", "limit=%FF", "a=" + "b" * 2048, "limit=0", "order=up"):
        head = f"GET /v1/files?{query} HTTP/1.1\r\nHost: localhost\r\n"
        got = door.raw(f"{head}Connection: close\r\n\r\n".encode())
        assert status(got) == 400
        assert code(got) in ("invalid_query", "invalid_value")


def test_slow_readers_hold_few_files_in_memory(door: FrontDoor) -> None:
    large = b"x" * (16 * 2**20)
    made = upload(door, {**GOOD, "file": ("a.jsonl", large)})
    assert made.status_code == 200, made.text
    head = f"GET /v1/files/{json.loads(made.text)['id']}/content HTTP/1.1\r\n"
    ask = f"{head}Host: localhost\r\nConnection: close\r\n\r\n".encode()
    slow = []
    for _ in range(2):
        wire = socket.socket()
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.connect(("127.0.0.1", door.port))
        wire.sendall(ask)
        assert wire.recv(15).startswith(b"HTTP/1.1 200")
        slow.append(wire)
    got = door.raw(ask)
    assert (status(got), code(got)) == (503, "overloaded")
    for wire in slow:
        wire.close()
    deadline = time.monotonic() + 10
    while status(got := door.raw(ask, timeout_s=30)) == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert got.endswith(large)
