"""The gate against raw sockets (C06, C08, C09, C10, C11, C12) and large bodies (C04)."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.proxy.api.front_door import CANARY, FrontDoor, ends_within, front_door, read_all

CHAT = b'{"model":"m","messages":[{"role":"user","content":"echo"}]}'


def post(
    body: bytes = CHAT,
    *,
    path: bytes = b"/v1/chat/completions",
    host: bytes = b"Host: localhost\r\n",
    content_type: bytes = b"Content-Type: application/json\r\n",
    more: bytes = b"",
) -> bytes:
    return b"POST %b HTTP/1.1\r\n%b%b%bContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
        path,
        host,
        content_type,
        more,
        len(body),
        body,
    )


def status(got: bytes) -> int:
    return int(got.split(b" ", 2)[1])


def code(got: bytes) -> str:
    return str(json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"])


@pytest.mark.parametrize(
    "host", [b"localhost", b"LOCALHOST", b"localhost:9", b"127.0.0.1:8080", b"[::1]:80"]
)
def test_answers_to_its_own_hosts(door: FrontDoor, host: bytes) -> None:
    assert status(door.raw(post(host=b"Host: " + host + b"\r\n"))) == 200


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"Host: localhost\r\nHost: localhost\r\n",
        b"Host: localhost\r\nhOST: evil.example\r\n",
        b"Host: \r\n",
        b"Host: evil.example\r\n",
        b"Host: localhost.evil.example\r\n",
        b"Host: localhost/?\r\n",
        b"Host: localhost#\r\n",
        b"Host: localhost, evil.example\r\n",
        b"Host: evil.example@localhost\r\n",
        b"Host: localhost@evil.example\r\n",
        b"Host: localhost:80:80\r\n",
        b"Host: localhost:x\r\n",
        b"Host: localhost:999999\r\n",
        b"Host: localhost.\r\n",
        b"Host: 127.1\r\n",
        b"Host: 2130706433\r\n",
        b"Host: ::1\r\n",
        b"X-Forwarded-Host: localhost\r\n",
    ],
)
def test_refuses_any_other_host(door: FrontDoor, host: bytes) -> None:
    got = door.raw(post(host=host))
    assert (status(got), code(got)) == (400, "invalid_host")


@pytest.mark.parametrize(
    "path",
    [
        b"//v1/chat/completions",
        b"/v1//chat/completions",
        b"/v1%2fchat/completions",
        b"/v1%2Fchat%2Fcompletions",
        b"/%76%31/chat/completions",
        b"/v1/chat/completions/",
        b"/v1/chat/completions;x=1",
        b"/v1/chat/./completions",
        b"/v1/x/../chat/completions",
        b"/v1/x/%2e%2e/chat/completions",
        b"/V1/chat/completions",
        b"/v1/chat/completions%00",
        b"/v1/chat/completions%20",
        b"/v1/chat/completions%0a",
        b"/chat/completions",
        b"/v1/completions/",
        b"/v1/responses/",
        b"/v1/responses/a.b",
        b"/v1/uploads",
        b"/v1/responses/a/cancel/",
        b"/v1/embedding",
        b"/v1/files/",
        b"/v1/files/a/content/x",
        b"/v1/batches/a/results",
        b"/v1/images/edit",
        b"/v1/models/",
        b"/v1/models/..",
        b"/v1/models/../chat/completions",
        b"/v1/models/a%2F..%2F..",
        b"/v1/models/a/b/c",
        b"/",
        b"/docs",
        b"/openapi.json/",
        b"/metrics/",
        b"/" + CANARY.encode(),
    ],
)
def test_unknown_paths_are_404_without_a_redirect(door: FrontDoor, path: bytes) -> None:
    got = door.raw(post(path=path))
    assert (status(got), code(got)) == (404, "unknown_url")
    assert b"location" not in got.lower()
    assert CANARY.encode() not in got


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        (b"GET", b"/v1/chat/completions", b"POST"),
        (b"PUT", b"/v1/chat/completions", b"POST"),
        (b"HEAD", b"/healthz", b"GET"),
        (b"OPTIONS", b"/v1/chat/completions", b"POST"),
        (b"TRACE", b"/healthz", b"GET"),
        (b"DELETE", b"/v1/models/small", b"GET"),
        (b"POST", b"/v1/models", b"GET"),
    ],
)
def test_other_methods_are_405_with_allow(
    door: FrontDoor, method: bytes, path: bytes, allowed: bytes
) -> None:
    got = door.raw(b"%b %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (method, path))
    assert status(got) == 405
    assert b"allow: %b\r\n" % allowed in got


def test_method_overrides_mean_nothing(door: FrontDoor) -> None:
    more = b"X-HTTP-Method-Override: POST\r\nConnection: close\r\n"
    got = door.raw(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % more)
    assert status(got) == 200


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"text/plain",
        b"text/json",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"application/json; charset=utf-7",
        b"application/json; charset=utf-16",
        b"application/json; charset=latin-1",
        b"application/json; charset=utf-8; charset=utf-7",
        b"application/jsonx",
        b"application/vnd.api+json",
        b"application/json, text/plain",
    ],
)
def test_refuses_other_types(door: FrontDoor, content_type: bytes) -> None:
    header = b"Content-Type: %b\r\n" % content_type if content_type else b""
    got = door.raw(post(content_type=header))
    assert (status(got), code(got)) == (415, "unsupported_content_type")


def test_refuses_two_types(door: FrontDoor) -> None:
    two = b"Content-Type: application/json\r\nContent-Type: text/plain\r\n"
    assert status(door.raw(post(content_type=two))) == 415


@pytest.mark.parametrize(
    "content_type",
    [b"application/json", b"Application/JSON", b'application/json; charset="UTF-8"'],
)
def test_takes_json_in_utf_8(door: FrontDoor, content_type: bytes) -> None:
    got = door.raw(post(content_type=b"Content-Type: %b\r\n" % content_type))
    assert status(got) == 200


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"zstd", b"deflate", b"gzip, gzip", b"x", b""])
def test_refuses_encoded_bodies(door: FrontDoor, coding: bytes) -> None:
    bomb = gzip.compress(b"\x00" * 1_000_000)
    got = door.raw(post(bomb, more=b"Content-Encoding: %b\r\n" % coding))
    assert (status(got), code(got)) == (415, "unsupported_encoding")


def test_a_get_with_a_body_is_refused(door: FrontDoor) -> None:
    got = door.raw(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nabcd")
    assert (status(got), code(got)) == (400, "unexpected_body")


def test_client_headers_of_ours_change_nothing(door: FrontDoor) -> None:
    more = (
        b"X-Ringfence-Route: cloud\r\nX-Ringfence-Policy: allow\r\nX-Request-Id: %b\r\n"
        b"X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nTraceparent: %b\r\n"
        b"OpenAI-Organization: %b\r\nConnection: authorization, x-ringfence-policy\r\n"
    ) % ((CANARY.encode(),) * 3)
    got = door.raw(post(more=more))
    assert status(got) == 200
    assert CANARY.encode() not in got
    assert b"x-ringfence-route" not in got
    assert CANARY not in door.log()


def test_a_body_that_says_it_is_too_large_is_not_read(door: FrontDoor) -> None:
    head = post(b"")[:-4].replace(b"Content-Length: 0", b"Content-Length: 52428800")
    got = door.raw(head + b"\r\n\r\n")
    assert (status(got), code(got)) == (413, "body_too_large")


def test_expect_is_not_met_for_a_body_that_is_too_large(door: FrontDoor) -> None:
    head = post(b"", more=b"Expect: 100-continue\r\n")[:-4]
    got = door.raw(head.replace(b"Content-Length: 0", b"Content-Length: 52428800") + b"\r\n\r\n")
    assert status(got) == 413
    assert b"100 Continue" not in got


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_fifty_megabytes_grow_memory_by_less_than_two_limits(framing: str) -> None:
    size = 50 * 2**20
    head = post(b"").partition(b"Content-Length")[0]
    with front_door() as door:  # the default limit, 10 MiB
        assert status(door.raw(post())) == 200
        before = door.peak_bytes()
        if framing == "length":
            data = head + b"Content-Length: %d\r\n\r\n" % size + b"a" * size
        else:
            pieces = (b"10000\r\n" + b"a" * 65536 + b"\r\n") * (size // 65536)
            data = head + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
        got = door.raw(data, timeout_s=30)
        assert (status(got), code(got)) == (413, "body_too_large")
        assert door.peak_bytes() - before < 2 * 10 * 2**20


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"[" * 100_000, "too_deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_deep"),
        (b'{"model":"m","messages":[' + b"[]," * 3_000_000 + b"[]]}", "too_many_values"),
        (b'{"messages":[' + b'{"role":"user"},' * 600_000 + b"{}]}", "too_many_values"),
        (b"{" + b'"a":1,' * 1_500_000 + b'"b":1}', "too_many_values"),
        (b'{"a":"' + b"\\n" * 4_900_000 + b'"', "invalid_json"),
        (b'{"a":' + b"9" * 9_000_000 + b"}", "number_out_of_range"),
        (b'{"a":' + b'"",' * 3_000_000 + b"}", "too_many_values"),
    ],
    ids=["deep", "deep objects", "lists", "messages", "members", "escapes", "digits", "strings"],
)
def test_json_bombs_are_refused_with_little_memory(body: bytes, expected: str) -> None:
    with front_door() as door:
        assert status(door.raw(post())) == 200
        before = door.peak_bytes()
        got = door.raw(post(body), timeout_s=30)
        assert (status(got), code(got)) == (400, expected)
        assert door.peak_bytes() - before < 4 * 10 * 2**20
        assert "seen" not in door.notes()[2:]


def test_a_slow_body_is_closed(door: FrontDoor) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as wire:
        wire.sendall(post()[:-10])
        got = read_all(wire)
    assert (status(got), code(got)) == (408, "request_timeout")


def test_a_client_that_leaves_within_its_body_costs_nothing(door: FrontDoor) -> None:
    seen = door.notes().count("seen")
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", door.port)) as wire:
            wire.sendall(post()[:-10])
    assert status(door.raw(post())) == 200
    assert door.notes().count("seen") == seen + 1
    assert "Traceback" not in door.log()


def test_pipelined_requests_are_answered_in_order(door: FrontDoor) -> None:
    one = post().replace(b"Connection: close\r\n", b"")
    got = door.raw(one + post())
    assert got.count(b"HTTP/1.1 200 ") == 2


def test_a_kept_connection_serves_again_after_an_error_of_the_request(door: FrontDoor) -> None:
    bad = post(b"{").replace(b"Connection: close\r\n", b"")
    got = door.raw(bad + post())
    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1 200 ") == 1


def test_many_slow_bodies_leave_room_for_others(door: FrontDoor) -> None:
    slow = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(100)]
    try:
        for wire in slow:
            wire.sendall(post()[:-10])
        assert status(door.raw(post())) == 200
    finally:
        for wire in slow:
            wire.close()


def test_the_query_string_is_neither_used_nor_logged(door: FrontDoor) -> None:
    got = door.raw(post(path=b"/v1/chat/completions?api-key=" + CANARY.encode()))
    assert status(got) == 200
    assert CANARY not in door.log()


def test_a_probe_that_is_well_is_a_debug_line(door: FrontDoor) -> None:
    door.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    door.raw(post())
    levels = {
        entry["route"]: entry["level"]
        for entry in map(json.loads, door.log().splitlines())
        if entry["event"] == "http"
    }
    assert levels["healthz"] == "debug"
    assert levels["chat.completions"] == "info"


def test_a_client_that_never_reads_is_dropped() -> None:
    body = CHAT.replace(b"echo", b"big 3000000")
    with (
        front_door({"WRITE_TIMEOUT_S": "0.5"}) as door,
        socket.create_connection(("127.0.0.1", door.port), timeout=10) as wire,
    ):
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.sendall(post(body))
        deadline = time.monotonic() + 20
        while '"http"' not in door.log() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1.5)
        assert ends_within(wire, b"x" * 65536, times=200)


def test_more_requests_than_it_takes_get_503_and_health_goes_on() -> None:
    body = CHAT.replace(b"echo", b"sleep 3")
    with front_door({"TEST_MAX_CONCURRENT": "8"}) as door:
        answers: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: answers.append(door.raw(post(body)))) for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)
        health = door.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        for thread in threads:
            thread.join()
        assert status(health) == 200
        statuses = sorted(status(got) for got in answers)
        assert statuses == [200] * 8 + [503] * 4
        refused = next(got for got in answers if status(got) == 503)
        assert code(refused) == "overloaded"
        assert b"retry-after" in refused


def test_large_bodies_together_stay_under_the_limit_and_give_it_back() -> None:
    large = post(CHAT.replace(b"echo", b"sleep 2 " + b"echo " * 100_000))
    with front_door({"TEST_MAX_BUFFERED_BYTES": str(2**20)}) as door:
        first = [threading.Thread(target=door.raw, args=(large,)) for _ in range(2)]
        for thread in first:
            thread.start()
        while door.notes().count("seen") < 2:
            time.sleep(0.02)
        got = door.raw(large)
        assert (status(got), code(got)) == (503, "overloaded")
        for thread in first:
            thread.join()
        assert door.notes().count("done") == 2
        assert status(door.raw(large)) == 200


@pytest.mark.parametrize(
    ("limit", "num_at_most", "fill"),
    [
        ({"TEST_MAX_CONCURRENT": "8"}, 4, b""),
        ({"TEST_MAX_BUFFERED_BYTES": str(2**21)}, 2, b"echo " * 100_000),
    ],
    ids=["requests", "bytes"],
)
def test_a_key_that_asks_for_all_leaves_room_for_another(
    limit: dict[str, str], num_at_most: int, fill: bytes, tmp_path: Path
) -> None:
    rows = (
        f"- {{id: {key}, sha256: {hashlib.sha256(key.encode()).hexdigest()}, "
        "app: a, team: t, environment: e}\n"
        for key in ("greedy", "modest")
    )
    (tmp_path / "keys.yaml").write_text("".join(rows))
    env = {"RINGFENCE_KEYS_FILE": str(tmp_path / "keys.yaml"), **limit}
    with front_door(env) as door, contextlib.ExitStack() as open_wires:
        long = post(CHAT.replace(b"echo", b"sleep 60 " + fill), more=bearer(b"greedy"))
        for _ in range(num_at_most):
            address = ("127.0.0.1", door.port)
            open_wires.enter_context(socket.create_connection(address, timeout=30)).sendall(long)
        until(lambda: door.notes().count("seen") == num_at_most)
        refused = door.raw(long)
        assert (status(refused), code(refused)) == (503, "overloaded")
        other = post(CHAT.replace(b"echo", b"echo " + fill), more=bearer(b"modest"))
        assert status(door.raw(other)) == 200
        open_wires.close()
        again = post(more=bearer(b"greedy"))
        until(lambda: status(door.raw(again)) == 200)


def bearer(key: bytes) -> bytes:
    return b"Authorization: Bearer %b\r\n" % key


def until(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
