"""A stand-in cloud: a real HTTP server on loopback that records every byte it gets.

It is not a language model. It serves the demo and the tests, where it is named as a stand-in
wherever its answers or numbers appear.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self

ANSWER = "This answer comes from the stand-in cloud."
#: What it reads aloud, whatever it is given.
SOUND = b"ID3-stand-in"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it arrived."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer; ``delay_s`` before it, ``cut`` to close the connection within the body.

    ``pieces`` make a stream in place of ``body``: bytes go out at once, a gate is waited for.
    """

    status: int = 200
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    delay_s: float = 0.0
    cut: bool = False
    pieces: tuple[bytes | threading.Event, ...] = ()


#: No gate stays shut for longer, so that no test leaves a thread behind; in seconds.
GATE_S: Final = 60.0

USAGE: Final = {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29}


def event(body: dict[str, object]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def chunk(said: dict[str, object], finish: str | None = None, index: int = 0) -> bytes:
    """A chunk of a chat completion: what it adds, or why it ends."""
    choice = {"index": index, "delta": said, "logprobs": None, "finish_reason": finish}
    return event({**_FRAME, "choices": [choice], "usage": None})


def text_chunk(text: str, finish: str | None = None) -> bytes:
    """A chunk of a completion of the older form."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    return event({**_FRAME, "object": "text_completion", "choices": [choice], "usage": None})


_FRAME: Final = {
    "id": "chatcmpl-standin",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "gpt-4o-mini",
}

#: The end of a stream whose tokens were asked for.
END: Final = event({**_FRAME, "choices": [], "usage": USAGE}) + b"data: [DONE]\n\n"


def streamed(*pieces: bytes | threading.Event, cut: bool = False) -> Reply:
    """A reply of events."""
    return Reply(headers=(("content-type", "text/event-stream"),), pieces=pieces, cut=cut)


def completion(text: str, model: str) -> bytes:
    """A chat completion that says ``text``."""
    answer = {
        "id": "chatcmpl-standin",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29},
    }
    return json.dumps(answer).encode()


def response(text: str, model: str) -> bytes:
    """A response that says ``text``."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    message = {
        "id": "msg_standin",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    answer = {
        "id": "resp_standin",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "store": False,
        "usage": {"input_tokens": 20, "output_tokens": 9, "total_tokens": 29},
    }
    return json.dumps(answer).encode()


def answer_to(path: str, model: str) -> bytes:
    """A well-behaved answer to a request for ``path``."""
    usage = {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29}
    head = {"id": "standin", "created": int(time.time()), "model": model, "usage": usage}
    if path.endswith("/embeddings"):
        vector = {"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}
        return json.dumps({**head, "object": "list", "data": [vector]}).encode()
    if path.endswith(("/transcriptions", "/translations")):
        return json.dumps({"text": ANSWER}).encode()
    if "/images/" in path:
        return json.dumps({"created": int(time.time()), "data": [{"b64_json": ""}]}).encode()
    if path.endswith("/chat/completions"):
        return completion(ANSWER, model)
    if path.endswith("/responses"):
        return response(ANSWER, model)
    choice = {"index": 0, "text": ANSWER, "logprobs": None, "finish_reason": "stop"}
    return json.dumps({**head, "object": "text_completion", "choices": [choice]}).encode()


@dataclass
class StandInCloud:
    """The server; use it as a context manager.

    Attributes:
        reply: makes the reply to each recorded request.
        requests: everything that arrived, in order.
        num_told: how many pieces of streams were taken from it.
        left: set once a client closed a stream before its end.
    """

    reply: Callable[[Recorded], Reply] = lambda _: Reply()
    requests: list[Recorded] = field(default_factory=list)
    num_told: int = 0
    left: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._server = _QuietServer(self)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def base_url(self) -> str:
        """The OpenAI-compatible root."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def received(self) -> bytes:
        """All bytes of all requests: paths, headers and bodies."""
        return b"\n".join(
            b"\n".join(
                [
                    request.path.encode(),
                    *(f"{name}: {value}".encode() for name, value in request.headers),
                    request.body,
                ]
            )
            for request in self.requests
        )


class _QuietServer(ThreadingHTTPServer):
    """A client that hangs up is no news here."""

    daemon_threads = True

    def __init__(self, cloud: StandInCloud) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cloud = cloud

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


class _Handler(BaseHTTPRequestHandler):
    """Records one request, and replies as its cloud says."""

    server: _QuietServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        self._answer(body)

    def do_GET(self) -> None:
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        recorded = Recorded(self.path, tuple(self.headers.items()), body, time.time())
        self.server.cloud.requests.append(recorded)
        reply = self.server.cloud.reply(recorded)
        time.sleep(reply.delay_s)
        if reply.pieces:
            self._tell(reply)
            return
        payload = reply.body
        if payload is None:
            is_form = self.headers.get("content-type", "").startswith("multipart/")
            model = "none" if is_form else json.loads(body or b"{}").get("model", "none")
            payload = answer_to(self.path, model)
        headers = reply.headers
        if reply.body is None and self.path.endswith("/speech"):
            payload, headers = SOUND, (("content-type", "audio/mpeg"),)
        self.send_response(reply.status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload[: len(payload) // 2] if reply.cut else payload)
        self.close_connection = reply.cut or self.close_connection

    def _tell(self, reply: Reply) -> None:
        """Send the pieces, each as a chunk of its own."""
        self.send_response(reply.status)
        for name, value in (*reply.headers, ("transfer-encoding", "chunked")):
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        try:
            for piece in reply.pieces:
                if isinstance(piece, bytes):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    self.server.cloud.num_told += 1
                else:
                    self._wait(piece)
        except ConnectionError:
            self.server.cloud.left.set()
            return
        if not reply.cut:
            self.wfile.write(b"0\r\n\r\n")

    def _wait(self, gate: threading.Event) -> None:
        """Wait for ``gate``, as long as somebody is there."""
        until = time.monotonic() + GATE_S
        while not gate.wait(0.02) and time.monotonic() < until:
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                raise ConnectionAbortedError

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a request line is text of a request."""
