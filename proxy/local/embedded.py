"""Keeps the embedded server running: started, started again when it dies, ended by its own id."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

import structlog

from proxy.errors import LocalBackendError

log = structlog.get_logger()

START_TIMEOUT_S: Final = 120.0
_SHORTEST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0


class EmbeddedServer:
    """The model server as a child process; use it as a context manager.

    The child ends when our end of its standard input closes, so that not even a killed parent
    leaves it behind.
    """

    def __init__(
        self, folder: Path, model: str, port: int = 0, encoder_dir: Path | None = None
    ) -> None:
        self._folder = folder
        self._encoder_dir = encoder_dir
        self._model = model
        self._port = port
        self._stopping = threading.Event()
        self._swap = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """Its OpenAI-style root; stays the same when the child is started again."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def pid(self) -> int | None:
        """Process id of the child, if it runs."""
        process = self._process
        return process.pid if process else None

    def __enter__(self) -> EmbeddedServer:
        self._start()
        self._watch = threading.Thread(target=self._keep_running, name="embedded", daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._end()
        if self._watch is not None:
            self._watch.join(5)

    def _start(self) -> None:
        process = self._spawn()
        late = threading.Timer(START_TIMEOUT_S, process.kill)
        late.start()
        line = process.stdout.readline() if process.stdout else b""
        late.cancel()
        if self._stopping.is_set() or not line.startswith(b"{"):
            self._end()
            raise LocalBackendError(
                "The embedded model server does not start: run `ringfence model pull --force`, "
                "or set RINGFENCE_LOCAL_BASE_URL."
            )
        self._port = int(json.loads(line)["port"])

    def _spawn(self) -> subprocess.Popen[bytes]:
        """The child; none is made once we are stopping, so that none is left behind."""
        with self._swap:
            if self._stopping.is_set():
                raise LocalBackendError("The embedded model server is stopping.")
            self._process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
                [
                    *(sys.executable, "-m", "proxy.local.server"),
                    *("--model-dir", str(self._folder)),
                    *("--model", self._model),
                    *("--port", str(self._port)),
                    *("--threads", str(len(os.sched_getaffinity(0)))),
                    *(("--encoder-dir", str(self._encoder_dir)) if self._encoder_dir else ()),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a library's traceback may hold text
                env=_environment(),
            )
            return self._process

    def _keep_running(self) -> None:
        pause_s = _SHORTEST_PAUSE_S
        while not self._stopping.is_set():
            lived_s = self._wait_for_death()
            if lived_s > _LONGEST_PAUSE_S:
                pause_s = _SHORTEST_PAUSE_S
            if self._stopping.is_set():
                return
            log.error("embedded_server_died", seconds=pause_s)
            if self._stopping.wait(pause_s):
                return
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            self._end()  # the dead one's pipes
            try:
                self._start()
            except LocalBackendError as error:
                if not self._stopping.is_set():
                    log.error("embedded_server_does_not_start", code=error.code)

    def _wait_for_death(self) -> float:
        """Wait for the child's end; how long that was, in seconds."""
        process = self._process
        if process is None:
            return 0.0
        started = time.monotonic()
        process.wait()
        return time.monotonic() - started

    def _end(self) -> None:
        with self._swap:
            process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _environment() -> dict[str, str]:
    """The child needs none of our keys. Threads that spin while they wait would take the cores
    from the detectors, and gain nothing."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RINGFENCE_", "OPENAI_"))
    }
    return {"OMP_WAIT_POLICY": "PASSIVE", **inherited}
