"""Raw bytes against a real server (C07, C08, C12): refused once, and the connection closed."""

from __future__ import annotations

import json
import socket

import pytest

from tests.proxy.api.front_door import CANARY, FrontDoor, ends_within, read_all

CHAT = b'{"model":"m","messages":[{"role":"user","content":"echo"}]}'
LEN = b"%d" % len(CHAT)
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def chunk(data: bytes, size: bytes | None = None) -> bytes:
    return (size or b"%x" % len(data)) + b"\r\n" + data + b"\r\n"


BAD_FRAMING = {
    "length and chunks": HEAD
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "chunks and length": HEAD
    + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "two lengths": HEAD
    + b"Content-Length: "
    + LEN
    + b"\r\nContent-Length: 0\r\n\r\n"
    + CHAT
    + SMUGGLED,
    "two equal lengths": HEAD + (b"Content-Length: " + LEN + b"\r\n") * 2 + b"\r\n" + CHAT,
    "list of lengths": HEAD + b"Content-Length: 59, 59\r\n\r\n" + CHAT,
    "signed length": HEAD + b"Content-Length: +59\r\n\r\n" + CHAT,
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n" + CHAT,
    "hex length": HEAD + b"Content-Length: 0x3b\r\n\r\n" + CHAT,
    "huge length": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n" + CHAT,
    "empty length": HEAD + b"Content-Length: \r\n\r\n" + CHAT,
    "chunked twice": HEAD
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunk(CHAT)
    + b"0\r\n\r\n",
    "chunked list": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk(CHAT) + b"0\r\n\r\n",
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + CHAT,
    "space before colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "length with space": HEAD + b"Content-Length : 59\r\n\r\n" + CHAT,
    "garbage after chunk": CHUNKED + b"%x\r\n" % len(CHAT) + CHAT + b"XX0\r\n\r\n",
    "0x chunk size": CHUNKED + chunk(CHAT, b"0x3b") + b"0\r\n\r\n",
    "negative chunk size": CHUNKED + chunk(CHAT, b"-1") + b"0\r\n\r\n",
    "chunk size overflow": CHUNKED + chunk(CHAT, b"f" * 17) + b"0\r\n\r\n",
    "trailers": CHUNKED + chunk(CHAT) + b"0\r\nHost: evil.example\r\n\r\n",
    "trailing key": CHUNKED + chunk(CHAT) + b"0\r\nAuthorization: Bearer x\r\n\r\n",
    "obs-fold": HEAD + b"X-A: b\r\n c\r\nContent-Length: " + LEN + b"\r\n\r\n" + CHAT,
    "bare LF": (HEAD + b"Content-Length: " + LEN + b"\r\n\r\n").replace(b"\r\n", b"\n") + CHAT,
    "bare CR": HEAD + b"X-A: b\rX-B: c\r\nContent-Length: " + LEN + b"\r\n\r\n" + CHAT,
    "NUL in value": HEAD + b"X-A: b\x00c\r\nContent-Length: " + LEN + b"\r\n\r\n" + CHAT,
    "no name": HEAD + b": b\r\nContent-Length: " + LEN + b"\r\n\r\n" + CHAT,
    "space in name": HEAD + b"X A: b\r\nContent-Length: " + LEN + b"\r\n\r\n" + CHAT,
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/1.0": b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.9": b"GET /healthz HTTP/1.9\r\nHost: localhost\r\n\r\n",
    "h2c upgrade": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n",
    "websocket": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n",
    "upgrade unasked": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\n\r\n",
    "absolute form": b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "absolute foreign": b"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "authority form": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "asterisk form": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "fragment": b"GET /healthz#x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "byte over 127 in path": b"GET /healthz\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    "random": bytes(range(256)),
}


@pytest.mark.parametrize("data", BAD_FRAMING.values(), ids=BAD_FRAMING.keys())
def test_refuses_doubtful_bytes_once_and_closes(door: FrontDoor, data: bytes) -> None:
    before = door.notes().count("seen")
    got = door.raw(data)
    assert got.count(b"HTTP/1.1 ") == 1
    assert got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 ")), got[:200]
    error = json.loads(got.partition(b"\r\n\r\n")[2])["error"]
    assert error["code"] in ("malformed_http", "body_too_large")
    assert b"connection: close" in got
    assert door.notes().count("seen") == before


def test_chunk_extensions_do_not_change_the_body(door: FrontDoor) -> None:
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    got = door.raw(head + chunk(CHAT, b"%x;a=b" % len(CHAT)) + b"0\r\n\r\n")
    assert got.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))


@pytest.mark.parametrize(
    "headers",
    [
        b"X-Big: " + b"a" * 65536,
        b"\r\n".join(b"X-%d: %s" % (number, b"a" * 600) for number in range(80)),
        b"\r\n".join(b"X-%d: a" % number for number in range(200)),
    ],
    ids=["one of 64 KB", "48 KB together", "200 lines"],
)
def test_refuses_large_heads(door: FrontDoor, headers: bytes) -> None:
    got = door.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 431 ")
    assert b"headers_too_large" in got


def test_an_endless_target_ends(door: FrontDoor) -> None:
    got = door.raw(b"GET /" + b"a" * 500_000)
    assert got.startswith(b"HTTP/1.1 431 ") or got == b""
    assert door.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")


def test_an_endless_head_ends(door: FrontDoor) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as wire:
        wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ")
        assert ends_within(wire, b"a" * 1024, times=100_000)


def test_a_slow_head_is_closed(door: FrontDoor) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as wire:
        wire.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
        got = read_all(wire)
    assert got.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in got


def test_a_silent_connection_is_closed(door: FrontDoor) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as wire:
        assert wire.recv(1) == b""


def test_two_hundred_slow_heads_do_not_keep_others_out(door: FrontDoor) -> None:
    slow = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(200)]
    try:
        for wire in slow:
            wire.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost:")
        got = door.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200 ")
    finally:
        for wire in slow:
            wire.close()


def test_a_broken_second_request_does_not_answer_the_first(door: FrontDoor) -> None:
    first = HEAD + b"Content-Length: %d\r\n\r\n" + b"%b"
    body = CHAT.replace(b"echo", b"sleep 0.5")
    got = door.raw(first % (len(body), body) + b"BROKEN\r\n\r\n")
    assert got == b""  # the connection closes; a 400 here would be read as the first one's answer


def test_no_byte_of_a_refused_request_is_logged(door: FrontDoor) -> None:
    canary = CANARY.encode() + b"-wire"
    for data in (
        b"GET http://%b/ HTTP/1.1\r\n\r\n",
        b"%b / HTTP/1.1\r\n\r\n",
        b"GET /%b\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n%b : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n",
    ):
        assert canary not in door.raw(data % canary)
    assert canary.decode() not in door.log()
