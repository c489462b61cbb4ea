"""The recorder: what a checked proxy takes for its cloud. It keeps every byte and answers as OpenAI
would, whole or as a stream, with canned text. It listens on loopback.
"""

from __future__ import annotations

import contextlib
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

from proxy.routes.chat import CHAT
from proxy.routes.completions import COMPLETIONS
from proxy.routes.responses import RESPONSES
from proxy.types import JSON, JSONObject

ANSWER: Final = "This answer comes from the recorder."
_USAGE: Final[JSONObject] = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}
_MAX_BODY_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it arrived; header names in lower case."""

    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass
class Recorder:
    """The server; use it as a context manager.

    Attributes:
        port: to listen on; 0 takes a free one.
        fails: whether to answer a request with an error.
        requests: everything that arrived, in order.
    """

    port: int = 0
    fails: Callable[[Recorded], bool] = lambda _: False
    requests: list[Recorded] = field(default_factory=list, repr=False)

    def __enter__(self) -> Self:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        self._server = _QuietServer(("127.0.0.1", self.port), _handler_of(self))
        self.port = self._server.server_port
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
        return f"http://127.0.0.1:{self.port}/v1"


class _QuietServer(ThreadingHTTPServer):
    """Ends its connections when it is closed: a proxy that keeps one must not talk to the dead."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._opened: set[Any] = set()  # before the rest: a port that is taken closes at once
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        self._opened.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        self._opened.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Stop listening, and end every connection."""
        super().server_close()
        for request in tuple(self._opened):
            with contextlib.suppress(OSError):
                request.shutdown(2)  # both directions

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that hangs up is no news here."""


def answer_to(path: str, body: JSONObject) -> tuple[str, bytes]:
    """Content type and bytes of a well-behaved answer to a request for ``path``."""
    path = path.partition("?")[0]
    whole = _whole(path, body.get("model"))
    if body.get("stream") is True:
        for route in (CHAT, COMPLETIONS, RESPONSES):
            if route.tell is not None and path.endswith(route.path):
                return "text/event-stream", b"".join(route.tell(whole, body))
    return "application/json", json.dumps(whole).encode()


def _whole(path: str, model: JSON) -> JSONObject:
    head: JSONObject = {"id": "recorded-1", "created": 0, "model": model, "usage": _USAGE}
    finish: JSONObject = {"index": 0, "finish_reason": "stop", "logprobs": None}
    match path.rsplit("/", 1)[-1]:
        case "embeddings":
            vector: JSON = {"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}
            return {**head, "object": "list", "data": [vector]}
        case "moderations":
            result: JSON = {"flagged": False, "categories": {}, "category_scores": {}}
            return {**head, "results": [result]}
        case "generations" | "edits" | "variations":
            return {"created": 0, "data": [{"b64_json": ""}]}
        case "transcriptions" | "translations":
            return {"text": ANSWER}
        case "models":
            names: list[JSON] = [{"id": "gpt-4o-mini", "object": "model", "owned_by": "recorder"}]
            return {"object": "list", "data": names}
        case "responses":
            return _response(model)
        case _ if path.endswith("/chat/completions"):
            message: JSON = {"role": "assistant", "content": ANSWER}
            choice: JSON = {**finish, "message": message}
            return {**head, "object": "chat.completion", "choices": [choice]}
        case "files":
            return {"id": "file-1", "object": "file", "purpose": "batch", "status": "processed"}
        case _ if "/batches" in path:
            return {"id": "batch_1", "object": "batch", "status": "completed"}
    return {**head, "object": "text_completion", "choices": [{**finish, "text": ANSWER}]}


def _response(model: JSON) -> JSONObject:
    part: JSON = {"type": "output_text", "text": ANSWER, "annotations": [], "logprobs": []}
    message: JSON = {
        "id": "msg_1", "type": "message", "status": "completed", "role": "assistant",
        "content": [part],
    }  # fmt: skip
    return {
        "id": "resp_1", "object": "response", "created_at": 0, "status": "completed",
        "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
        "model": model, "output": [message], "parallel_tool_calls": True, "tool_choice": "auto",
        "tools": [], "temperature": 1.0, "top_p": 1.0, "store": False,
        "usage": {
            "input_tokens": 20, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 27,
        },
    }  # fmt: skip


def _handler_of(recorder: Recorder) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = b"".join(self._body(headers))
            recorded = Recorded(self.path, headers, body)
            recorder.requests.append(recorded)
            if recorder.fails(recorded):
                fault = {"message": "The recorder fails.", "type": "server_error", "code": None}
                return self._answer(503, "application/json", json.dumps({"error": fault}).encode())
            self._answer(200, *answer_to(self.path, _read(body, headers)))

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            recorder.requests.append(Recorded(self.path, headers, b""))
            self._answer(200, *answer_to(self.path, {}))

        def _body(self, headers: dict[str, str]) -> Iterator[bytes]:
            if "chunked" not in headers.get("transfer-encoding", "").lower():
                size = int(headers.get("content-length", "0"))
                yield self.rfile.read(min(size, _MAX_BODY_BYTES))
                return
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def _answer(self, status: int, kind: str, payload: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a request line is text of a request."""

    return Handler


def _read(body: bytes, headers: dict[str, str]) -> JSONObject:
    if headers.get("content-encoding", "") in ("gzip", "deflate"):
        body = zlib.decompressobj(wbits=47).decompress(body, _MAX_BODY_BYTES)
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
