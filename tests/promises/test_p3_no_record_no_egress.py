"""P3: the intent is durable before the first byte leaves; no record, no egress."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from audit.capture_keys import make_capture_key
from audit.captures import open_body
from demo.stand_in_cloud import ANSWER, Recorded, Reply, StandInCloud
from proxy.assembly import Proxy
from proxy.errors import SettingsError
from proxy.settings import load_settings
from tests.harness import RunningProxy, running_proxy, write_policy

#: How long each sync takes on the slow disk.
SYNC_S = 0.15
CLEAN = "Name the longest river in Europe."


def test_the_intent_is_in_the_file_when_the_cloud_gets_the_request(
    proxy: RunningProxy, cloud: StandInCloud
) -> None:
    seen: list[tuple[int, int]] = []

    def look(_: Recorded) -> Reply:
        seen.append((len(proxy.records("egress.intent")), len(proxy.records("egress.outcome"))))
        return Reply()

    cloud.reply = look
    before = len(proxy.records("egress.intent"))
    assert proxy.ask(CLEAN).choices[0].message.content == ANSWER
    assert seen == [(before + 1, before)]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_waits_until_the_disk_says_that_the_intent_is_there(
    cloud: StandInCloud, local_url: str, tmp_path: Path
) -> None:
    slow_disk = (
        *("strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", str(tmp_path / "trace")),
        *("-e", f"inject=fsync,fdatasync:delay_enter={int(SYNC_S * 1e6)}"),
    )
    env = {"RINGFENCE_LOCAL_BASE_URL": local_url}
    with running_proxy(tmp_path, cloud.base_url, env, under=slow_disk) as proxy:
        assert proxy.ask(CLEAN).choices[0].message.content == ANSWER
        (intent,) = proxy.records("egress.intent")
    (sent,) = cloud.requests
    written_at = datetime.fromisoformat(str(intent["time"])).timestamp()
    assert sent.at - written_at >= SYNC_S


def test_one_attempt_one_intent_when_the_cloud_fails(
    proxy: RunningProxy, cloud: StandInCloud
) -> None:
    cloud.reply = lambda _: Reply(status=500, body=b'{"error":{"message":"boom"}}')
    before = len(proxy.records("egress.intent"))
    answer = proxy.ask(CLEAN)
    assert answer.choices[0].message.content != ANSWER  # the draft, marked degraded
    assert len(cloud.requests) == 1
    assert len(proxy.records("egress.intent")) == before + 1
    outcome = proxy.records("egress.outcome")[-1]
    assert (outcome["sent"], outcome["status"]) == ("yes", 500)


def test_follows_no_redirect(proxy: RunningProxy, cloud: StandInCloud) -> None:
    cloud.reply = lambda _: Reply(
        status=307, body=b"", headers=(("location", f"{cloud.base_url}/elsewhere"),)
    )
    proxy.ask(CLEAN)
    assert [request.path for request in cloud.requests] == ["/v1/chat/completions"]


def test_takes_no_proxy_from_the_environment(
    cloud: StandInCloud, local_url: str, tmp_path: Path
) -> None:
    with StandInCloud() as trap:
        env = {
            "RINGFENCE_LOCAL_BASE_URL": local_url,
            **dict.fromkeys(
                ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"),
                trap.base_url.removesuffix("/v1"),
            ),
        }
        with running_proxy(tmp_path, cloud.base_url, env) as proxy:
            assert proxy.ask(CLEAN).choices[0].message.content == ANSWER
        assert trap.requests == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB for the data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_nothing_leaves_while_the_disk_is_full_and_egress_comes_back_by_itself(
    tiny_disk: Path, cloud: StandInCloud, local_url: str, tmp_path: Path
) -> None:
    env = {
        "RINGFENCE_LOCAL_BASE_URL": local_url,
        "RINGFENCE_EXPOSE_ROUTE_HEADERS": "true",
    }
    body = json.dumps(
        {
            "model": "ringfence",
            "messages": [{"role": "user", "content": CLEAN}],
            "max_tokens": 4,
        }
    ).encode()
    with running_proxy(tmp_path, cloud.base_url, env) as proxy:
        assert proxy.post(body).headers["x-ringfence-route"] == "cloud"
        _fill(tiny_disk / "ballast")
        cloud.requests.clear()
        for _ in range(3):
            response = proxy.post(body)
            assert response.status_code == 200
            assert response.headers["x-ringfence-route"] == "local"
            assert response.headers["x-ringfence-degraded"] == "true"
        assert cloud.requests == []
        (tiny_disk / "ballast").unlink()
        assert [proxy.post(body).headers["x-ringfence-route"] for _ in range(4)][-1] == "cloud"


def test_nothing_leaves_whose_body_cannot_be_kept_for_the_auditor(
    cloud: StandInCloud, local_url: str, tmp_path: Path
) -> None:
    make_capture_key(tmp_path / "auditor")
    public = tmp_path / "proxy.pub"
    public.write_bytes((tmp_path / "auditor" / "capture.pub").read_bytes())
    env = {"RINGFENCE_LOCAL_BASE_URL": local_url, "RINGFENCE_CAPTURE_KEY_FILE": str(public)}
    with running_proxy(tmp_path, cloud.base_url, env) as proxy:
        assert proxy.ask(CLEAN).choices[0].message.content == ANSWER
        (intent,) = proxy.records("egress.intent")
        ledger = tmp_path / "data" / "ledger"
        key = tmp_path / "auditor" / "capture.key"
        assert open_body(ledger, str(intent["id"]), key) == cloud.requests[0].body
        stored = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert not any(CLEAN.encode() in data for data in stored)
        vault = ledger / "vault"
        vault.rename(ledger / "taken")
        vault.write_bytes(b"")
        assert proxy.ask(CLEAN).choices[0].message.content != ANSWER
        assert len(cloud.requests) == len(proxy.records("egress.intent")) == 1


def test_a_proxy_with_the_auditors_private_key_does_not_start(
    cloud: StandInCloud, tmp_path: Path
) -> None:
    make_capture_key(tmp_path)
    for name in ("capture.key", "capture.pub"):
        settings = load_settings(
            {
                "RINGFENCE_CAPTURE_KEY_FILE": str(tmp_path / name),
                "RINGFENCE_DATA_DIR": str(tmp_path / "data"),
                "RINGFENCE_POLICY_FILE": str(write_policy(tmp_path, cloud.base_url)),
            }
        )
        with pytest.raises(SettingsError, match=r"RINGFENCE_CAPTURE_KEY_FILE: .*private key"):
            Proxy(settings)


def _fill(path: Path) -> None:
    """Write until the file system is full to the last byte."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(os.urandom(size))
            except OSError:
                continue
