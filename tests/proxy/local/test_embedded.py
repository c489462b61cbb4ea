"""The embedded server's process: started, watched, started again, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import psutil
import pytest

from proxy.errors import LocalBackendError
from proxy.local.embedded import EmbeddedServer
from tests.harness import model_dir

pytestmark = pytest.mark.slow


def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def answers(url: str) -> bool:
    try:
        with httpx2.Client(trust_env=False, timeout=2) as wire:
            return wire.get(f"{url}/models").status_code == 200
    except httpx2.TransportError:
        return False


def test_is_started_again_at_the_same_address_and_ended_at_last() -> None:
    with EmbeddedServer(model_dir(), "m") as server:
        url, first = server.base_url, server.pid
        assert answers(url)
        assert first is not None
        assert {c.laddr.ip for c in psutil.Process(first).net_connections()} == {"127.0.0.1"}
        os.kill(first, signal.SIGKILL)
        until(lambda: server.pid not in (None, first) and answers(url))
        assert server.base_url == url
        last = server.pid
    assert last is not None
    assert not psutil.pid_exists(last)


def test_ends_with_a_parent_that_is_killed() -> None:
    script = (
        "import sys, time; from pathlib import Path; "
        "from proxy.local.embedded import EmbeddedServer; "
        "server = EmbeddedServer(Path(sys.argv[1]), 'm').__enter__(); "
        "print(server.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(model_dir())], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not psutil.pid_exists(child), 20)


def test_says_what_to_do_where_there_is_no_model(tmp_path: Path) -> None:
    with (
        pytest.raises(LocalBackendError, match="ringfence model pull"),
        EmbeddedServer(tmp_path, "m"),
    ):
        pass


def test_does_not_start_on_weights_that_were_changed(tmp_path: Path) -> None:
    for path in model_dir().iterdir():
        if path.name != "model.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = bytearray((model_dir() / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(LocalBackendError), EmbeddedServer(tmp_path, "m"):
        pass


def test_the_child_gets_none_of_our_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-4711")
    monkeypatch.setenv("RINGFENCE_CLOUD_API_KEY", "canary-4711")
    with EmbeddedServer(model_dir(), "m") as server:
        assert server.pid is not None
        assert b"canary-4711" not in Path(f"/proc/{server.pid}/environ").read_bytes()
