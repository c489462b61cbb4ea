"""What `ringfence ask` makes of an answer, from a real server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from proxy.errors import LocalBackendError
from proxy.local.ask import ask
from tests.harness import free_port

QUESTION = "canary-4711"


@contextmanager
def answering(
    payload: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> Iterator[tuple[str, list[tuple[str, str | None, Any]]]]:
    """A server that says ``payload`` to everything, and what it was asked."""
    asked: list[tuple[str, str | None, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.path, self.headers["authorization"], body))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test reads what was asked."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def completion(content: object) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content}}]}).encode()


def test_asks_as_an_app_would_and_says_where_the_answer_came_from() -> None:
    said = {
        "x-ringfence-decision-id": "dec_1",
        "x-ringfence-route": "local",
        "x-ringfence-reason": "pinned",
    }
    with answering(completion("The Volga."), headers=said) as (url, asked):
        told = ask(url, "sk-1", QUESTION, model="ringfence", max_tokens=8)
    assert (told.ok, told.text) == (True, "The Volga.")
    assert told.decision_id == "dec_1"
    assert told.route == {"route": "local", "reason": "pinned"}
    body = {
        "model": "ringfence",
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 8,
    }
    assert asked == [("/v1/chat/completions", "Bearer sk-1", body)]


def test_no_header_is_no_route() -> None:
    with answering(completion("Yes.")) as (url, _):
        told = ask(url, "sk-1", QUESTION, model="m", max_tokens=8)
    assert (told.decision_id, told.route) == ("", {})


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b'{"error": {"message": "No.", "code": "blocked"}}', "No. (blocked)"),
        (completion(None), "(no text)"),
        (b'{"choices": []}', "(no text)"),
    ],
)
def test_tells_a_refusal_from_an_answer(payload: bytes, text: str) -> None:
    with answering(payload, status=403) as (url, _):
        told = ask(url, "sk-1", QUESTION, model="m", max_tokens=8)
    assert (told.ok, told.text) == (False, text)
    assert text not in repr(told)


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"<html>"])
def test_what_is_no_proxy_is_named_and_the_question_is_not(payload: bytes) -> None:
    with (
        answering(payload) as (url, _),
        pytest.raises(LocalBackendError, match="ringfence serve") as caught,
    ):
        ask(url, "sk-1", QUESTION, model="m", max_tokens=8)
    assert caught.value.__context__ is None
    assert QUESTION not in str(caught.value)


@pytest.mark.parametrize("url", ["", "nonsense", "http://[", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_is_a_plain_fault(url: str) -> None:
    with pytest.raises(LocalBackendError, match="No proxy answers"):
        ask(url, "sk-1", QUESTION, model="m", max_tokens=8)


def test_nobody_there_is_a_plain_fault() -> None:
    with pytest.raises(LocalBackendError, match="No proxy answers"):
        ask(f"http://127.0.0.1:{free_port()}", "sk-1", QUESTION, model="m", max_tokens=8)
