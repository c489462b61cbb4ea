"""A real front door in a process of its own, with a small answerer behind it.

The answerer is no model: the last message's first word tells it what to do, and it writes one line
for each request it saw, each it finished and each that was cancelled to standard output.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audit.errors import LedgerUnwritable
from audit.record import ReplayRecord
from proxy.api.app import Lifespan, Rooms, Watch, build_app
from proxy.api.auth import KeyTable
from proxy.api.batch import Batches
from proxy.api.batch_lines import Limits as BatchLimits
from proxy.api.batch_runner import BatchRunner, Pace
from proxy.api.conversations import Conversations
from proxy.api.files import Files
from proxy.api.gate import Limits
from proxy.api.once import Once
from proxy.api.protocol import StrictProtocol
from proxy.api.server import serve
from proxy.errors import CloudError, LocalBackendError, error_body
from proxy.logs import configure_logs
from proxy.objects import ObjectStore
from proxy.routes.responses_home import from_chat, to_chat
from proxy.settings import load_settings
from proxy.types import Confidence, Request, Response, Route, RouteReason, Target

DECISION = "dec_" + "a" * 28
CANARY = "canary-7f3e9b"


def completion(text: str, **message: object) -> dict[str, Any]:
    """A chat completion that says ``text``."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "small",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }


def _note(line: str) -> None:
    print(line, flush=True)


class Answers:
    """The answerer: ``echo``, ``sleep N``, ``big N``, ``tool``, ``fail KIND``, ``block``."""

    async def answer(self, request: Request) -> Response:
        """Do what the last message says."""
        is_chat = request.route == "chat.completions"
        asked: Any = request.body if is_chat else to_chat(request.body)
        content = asked["messages"][-1]["content"]
        word, _, rest = (content if isinstance(content, str) else "echo").partition(" ")
        _note("seen")
        try:
            response = await self._do(word, rest)
            if not is_chat and response.http_status == 200:
                response = replace(response, body=from_chat(response.body, request.body))
        except asyncio.CancelledError:
            _note("cancelled")
            raise
        _note("done")
        return response

    async def _do(self, word: str, rest: str) -> Response:
        local = Route(Target.LOCAL, RouteReason.CONFIDENT)
        if word == "sleep":
            seconds, _, then = rest.partition(" ")
            await asyncio.sleep(float(seconds))
            return await self._do(*then.partition(" ")[::2]) if then else self._ok("slept", local)
        if word == "fail":
            raise {
                "local": LocalBackendError("The on-premises model did not answer."),
                "cloud": CloudError("The cloud did not answer.", error_type="timeout"),
                "audit": LedgerUnwritable(f"disk {CANARY}"),
                "bug": ValueError(f"bad value {CANARY}"),
            }[rest]
        if word == "block":
            body = error_body(
                "Blocked.", error_type="invalid_request_error", code="blocked_by_policy"
            )
            return Response(DECISION, 400, body, Route(Target.REFUSE, RouteReason.BLOCKED))
        if word == "big":
            return self._ok("word " * int(rest), local)
        if word == "tool":
            call = {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Lagos"}'},
            }
            answer = completion("", content=None, tool_calls=[call])
            answer["choices"][0]["finish_reason"] = "tool_calls"
            return Response(DECISION, 200, answer, local)
        return self._ok("The Volga is the longest river in Europe.", local)

    def _ok(self, text: str, route: Route) -> Response:
        confidence = Confidence(-0.25, -0.6, "mean_logprob")
        return Response(DECISION, 200, completion(text), route, confidence)


def _lifespan(rooms: Rooms, store: Callable[[], ObjectStore], keys: KeyTable) -> Lifespan:
    """Runs the batches beside the requests."""
    pace = Pace(2, 60.0, BatchLimits(2**20, 64), retry_s=(0.05,), grace_s=1.0)
    runner = BatchRunner(rooms.conversations, rooms.batches, rooms.files, keys, pace)

    @contextlib.asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        _note("opened")
        with tempfile.TemporaryDirectory(prefix="front-door-batches-") as folder:
            running = asyncio.create_task(runner.run(store(), Path(folder)))
            yield
            running.cancel()
            await asyncio.wait({running})
        _note("closed")

    return lifespan


async def _readiness() -> tuple[str, ...]:
    return tuple(filter(None, os.environ.get("TEST_MISSING", "").split(",")))


async def _replayed(record: ReplayRecord) -> None:
    """Stands for the ledger: which decision is given again, with which status."""
    _note(f"replay:{record.decision_id}:{record.status}:{record.caller.key_id}")


def _store() -> Callable[[], ObjectStore]:
    """A real store, in a folder that goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="front-door-objects-")
    store = ObjectStore(Path(folder.name) / "objects.sqlite3", os.urandom(32), 86_400.0)

    def opened() -> ObjectStore:
        assert folder.name
        return store

    return opened


def main() -> None:
    """Serve on the configured port until a signal comes."""
    settings = load_settings()
    configure_logs("json", "debug")
    for name in ("head_timeout_s", "write_timeout_s", "max_connections"):
        if name.upper() in os.environ:
            setattr(StrictProtocol, name, float(os.environ[name.upper()]))
    store, keys = _store(), KeyTable.load(settings.keys_file)
    conversations = Conversations(Answers(), store, settings.max_body_bytes)
    once = Once(store, settings.request_timeout_s, _replayed)
    rooms = Rooms(conversations, Files(store), Batches(store), once)
    app = build_app(
        rooms,
        settings=settings,
        keys=keys,
        routes=(
            lambda: ("small", "org/large"),
            Watch(_readiness),
            _lifespan(rooms, store, keys),
        ),
        limits=Limits(
            settings.max_body_bytes,
            settings.max_file_bytes,
            body_timeout_s=float(os.environ.get("TEST_BODY_TIMEOUT_S", "60")),
            max_buffered_bytes=int(os.environ.get("TEST_MAX_BUFFERED_BYTES", str(2**28))),
            max_concurrent=int(os.environ.get("TEST_MAX_CONCURRENT", "512")),
        ),
        keep_alive_s=float(os.environ.get("TEST_KEEP_ALIVE_S", "5")),
    )
    serve(app, settings)


@dataclass(frozen=True)
class FrontDoor:
    """A running front door."""

    process: subprocess.Popen[bytes]
    port: int
    out_path: Path
    log_path: Path

    @property
    def url(self) -> str:
        """Its root."""
        return f"http://127.0.0.1:{self.port}"

    def notes(self) -> list[str]:
        """What the answerer wrote so far."""
        return self.out_path.read_text().split()

    def log(self) -> str:
        """What the proxy logged so far."""
        return self.log_path.read_text()

    def rss_bytes(self) -> int:
        """Its resident memory now."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def peak_bytes(self) -> int:
        """The most memory it ever had."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")

    def raw(self, data: bytes, *, timeout_s: float = 10.0, finish: bool = False) -> bytes:
        """Send bytes as they are; everything that comes back until the connection closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as wire:
            with contextlib.suppress(ConnectionError):
                wire.sendall(data)
            if finish:
                wire.shutdown(socket.SHUT_WR)
            return read_all(wire)


def read_all(wire: socket.socket) -> bytes:
    """Everything until the other side closes, or until the socket's timeout."""
    got = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while piece := wire.recv(65536):
            got += piece
    return got


def ends_within(wire: socket.socket, piece: bytes, *, times: int) -> bool:
    """Whether the other side ends the connection while pieces are sent to it."""
    try:
        for _ in range(times):
            wire.sendall(piece)
    except ConnectionError:
        return True
    return False


@contextlib.contextmanager
def front_door(env: Mapping[str, str] | None = None) -> Iterator[FrontDoor]:
    """Start a front door, wait until it answers, and end it by its own process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    folder = Path(tempfile.mkdtemp(prefix="front-door-"))  # read after it has ended, too
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RINGFENCE_", "OPENAI_"))}
    with (folder / "out").open("wb") as out, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.proxy.api.front_door"],
            stdout=out,
            stderr=log,
            env={**inherited, "RINGFENCE_PORT": str(port), **(env or {})},
            cwd=Path(__file__).parents[3],
        )
        door = FrontDoor(process, port, folder / "out", folder / "log")
        try:
            _wait_until_up(door)
            yield door
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_up(door: FrontDoor) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and door.process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", door.port), timeout=1).close()
            return
        time.sleep(0.05)
    raise AssertionError(f"the front door did not open: {door.log()[-2000:]}")


if __name__ == "__main__":
    main()
