"""Real processes for the tests: a proxy, its local model server, a recording stand-in cloud."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import openai
import pytest
from jsonschema import Draft202012Validator

from audit.schema import record_schema
from proxy.settings import Settings

ROOT = Path(__file__).parent.parent
START_TIMEOUT_S = 90.0
SCHEMA = Draft202012Validator(record_schema())


def model_dir() -> Path:
    """The folder of the embedded model; tests that need it are skipped where it is not there."""
    folder = Path(os.environ.get("RINGFENCE_MODEL_DIR", Settings().model_dir))
    if not (folder / "model.safetensors").exists():
        pytest.skip(f"no embedded model in {folder}: run `make model`")
    return folder


def encoder_dir() -> Path:
    """The folder of the embedded encoder."""
    folder = Path(os.environ.get("RINGFENCE_EMBEDDING_MODEL_DIR", Settings().embedding_model_dir))
    if not (folder / "model.safetensors").exists():
        pytest.skip(f"no encoder in {folder}: run `make model`")
    return folder


def ringfence(*arguments: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person in the checkout would; none of our settings is inherited."""
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        input=given,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=_inherited() | env,
        timeout=100,
    )


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class RunningProxy:
    """A `ringfence serve` process and what it wrote."""

    process: subprocess.Popen[bytes]
    url: str
    data_dir: Path
    log_path: Path
    clients: list[openai.OpenAI] = field(default_factory=list, repr=False)

    @property
    def client(self) -> openai.OpenAI:
        """An unmodified client, but for the one line an app changes, and no retries of its own.

        It is closed when the proxy ends, if not before.
        """
        made = openai.OpenAI(base_url=f"{self.url}/v1", api_key="sk-any", max_retries=0)
        self.clients.append(made)
        return made

    def ask(self, text: str, **more: object) -> openai.types.chat.ChatCompletion:
        """One short question through the client; a stream is read from it later."""
        client = self.client
        answer: openai.types.chat.ChatCompletion = client.chat.completions.create(
            **{  # type: ignore[call-overload]
                "model": "ringfence",
                "messages": [{"role": "user", "content": text}],
                "max_tokens": 8,
                **more,
            }
        )
        if not more.get("stream"):
            client.close()
        return answer

    def post(self, body: bytes, **headers: str) -> httpx2.Response:
        """Raw bytes to the chat route."""
        return self.post_to("/v1/chat/completions", body, **headers)

    def post_to(self, path: str, body: bytes, **headers: str) -> httpx2.Response:
        """Raw bytes to a route."""
        with httpx2.Client(trust_env=False, timeout=120) as wire:
            return wire.post(
                f"{self.url}{path}",
                content=body,
                headers={"content-type": "application/json", **headers},
            )

    def metrics(self) -> bytes:
        """What /metrics says, over a connection of its own."""
        with httpx2.Client(trust_env=False) as wire:
            return wire.get(f"{self.url}/metrics").raise_for_status().content

    def records(self, kind: str | None = None) -> list[dict[str, object]]:
        """The ledger's records so far, oldest first within a chain."""
        return [
            record
            for record in records_in(self.data_dir / "ledger")
            if kind is None or record["kind"] == kind
        ]

    def records_once(self, kind: str, at_least: int) -> list[dict[str, object]]:
        """The records of a kind, once there are as many as expected."""
        deadline = time.monotonic() + 20
        while len(found := self.records(kind)) < at_least and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(found) >= at_least, f"{len(found)} of {at_least} {kind}"
        return found

    def deciding(self) -> int:
        """How many workers have decided something."""
        return len({record["chain"] for record in self.records("decision")})

    def ask_every_worker(self, text: str, num_workers: int = 2) -> int:
        """Ask ``text`` until each worker decided something: the kernel says who takes a connection.

        Returns:
            How many questions that took.
        """
        body = {"model": "ringfence", "messages": [{"role": "user", "content": text}]}
        content = json.dumps(body | {"max_tokens": 1}).encode()
        deadline = time.monotonic() + 60
        asked = 0
        with ThreadPoolExecutor(4) as clients:
            while self.deciding() < num_workers:
                assert time.monotonic() < deadline, f"{self.deciding()} workers decide"
                asked += len(list(clients.map(self.post, [content] * 4)))
        return asked

    def everything_written(self) -> bytes:
        """All bytes of the data folder and the log, to look for what must not be there."""
        files = [path for path in self.data_dir.rglob("*") if path.is_file()]
        return b"\n".join(path.read_bytes() for path in [*files, self.log_path])


def records_in(ledger: Path) -> list[dict[str, object]]:
    """The records of a ledger so far, oldest first within a chain."""
    return [
        json.loads(line)
        for path in sorted((ledger / "wal").rglob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]


def check_records(ledger: Path) -> None:
    """Every whole line of ``ledger`` is a record of the published schema."""
    for path in sorted((ledger / "wal").rglob("*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            SCHEMA.validate(json.loads(line))


def write_policy(
    folder: Path, cloud_url: str | None, edits: Sequence[tuple[str, str]] = ()
) -> Path:
    """The shipped default policy with the cloud destination replaced by the stand-in."""
    text = (ROOT / "policies" / "default.yaml").read_text()
    for old, new in [("https://api.openai.com/v1", cloud_url or "http://127.0.0.1:9/v1"), *edits]:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


@contextlib.contextmanager
def running_proxy(
    folder: Path,
    cloud_url: str | None,
    env: Mapping[str, str] | None = None,
    *,
    ready: str = "/readyz",
    under: Sequence[str] = (),
) -> Iterator[RunningProxy]:
    """Start `ringfence serve`, wait until it is ready, and end it by its own process id.

    Args:
        folder: for data, policy and log.
        cloud_url: the stand-in's root; None runs the proxy local-only.
        env: settings on top of the defaults here (threshold 0: every unpinned draft escalates).
        ready: route that must answer 200; ``/healthz`` where the local tier is meant to be down.
        under: a command that runs the proxy, in the process that it was given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {
        "RINGFENCE_PORT": str(port),
        "RINGFENCE_DATA_DIR": str(folder / "data"),
        "RINGFENCE_MODEL_DIR": str(model_dir()),
        "RINGFENCE_LOG_FORMAT": "json",
        "RINGFENCE_LOG_LEVEL": "debug",
        "RINGFENCE_CONFIDENCE_THRESHOLD": "0",
        **({"RINGFENCE_CLOUD_API_KEY": "sk-stand-in"} if cloud_url else {}),
        **(env or {}),
    }
    if "RINGFENCE_POLICY_FILE" not in settings:
        settings["RINGFENCE_POLICY_FILE"] = str(write_policy(folder, cloud_url))
    log_path = folder / "log.jsonl"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*under, sys.executable, "-m", "proxy", "serve"],
            stderr=log,
            stdout=log,
            env=_inherited() | settings,
            cwd=folder,
        )
    proxy = RunningProxy(process, f"http://127.0.0.1:{port}", folder / "data", log_path)
    try:
        _wait_until_ready(proxy, ready)
        yield proxy
    finally:
        for client in proxy.clients:
            client.close()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    check_records(folder / "data" / "ledger")


def _inherited() -> dict[str, str]:
    """The environment without settings of ours."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("RINGFENCE_", "OPENAI_"))}


def _wait_until_ready(proxy: RunningProxy, route: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx2.Client(trust_env=False) as wire:
        while time.monotonic() < deadline:
            if proxy.process.poll() is not None:
                break
            # another suite's proxy may have got the port first, and answers there in its place
            is_ours = b"started" in proxy.log_path.read_bytes()
            with contextlib.suppress(httpx2.TransportError):
                if is_ours and wire.get(f"{proxy.url}{route}").status_code == 200:
                    if proxy.process.poll() is None:
                        return
            time.sleep(0.1)
    raise AssertionError(f"the proxy did not start: {proxy.log_path.read_text()[-2000:]}")
