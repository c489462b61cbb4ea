"""The proxy, the model server and the detectors connect to nobody but the configured upstreams.

The kernel is asked, not the libraries: every address that any process of the tree hands to it is
written down by strace, whatever language the code behind it is written in.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from demo.stand_in_cloud import StandInCloud
from tests.harness import ROOT, encoder_dir, free_port, running_proxy
from tests.proxy.inspection.files.test_picture import TEXT as PICTURE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

#: What makes libraries look something up: e-mail (public suffixes), names, numbers, links, images.
TEXTS = (
    "Write to jane.doe@some-unlisted-suffix.co.uk or call +44 20 7946 0958.",
    "Jane Doe's IBAN is GB82 WEST 1234 5698 7654 32, her site https://jane.example.org/me.",
    "Le numéro de Jean Dupont est le 06 12 34 56 78.",
    "Name the longest river in Europe.",
)
REMOTE_IMAGE = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
]
LOCAL_IMAGE = [
    {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"},
    }
]
_ADDRESS = re.compile(
    r"sin6?_port=htons\((?P<port>\d+)\).*?"
    r'(?:inet_addr\("(?P<v4>[^"]+)"\)|inet_pton\(AF_INET6, "(?P<v6>[^"]+)")'
)


def guard(trace: Path) -> tuple[str, ...]:
    """The command that runs another one, in its own process, and notes every address it uses."""
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    return ("strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", str(trace), "-e", calls)


def addresses(trace: Path) -> dict[tuple[str, int], str]:
    """The internet addresses in a trace, each with the call that used it first and what came then:
    a question to a name server tells what was asked.
    """
    lines = trace.read_text().splitlines()
    found: dict[tuple[str, int], str] = {}
    for number, line in enumerate(lines):
        if m := _ADDRESS.search(line):
            place = (m["v4"] or m["v6"], int(m["port"]))
            found.setdefault(place, "\n".join(lines[number : number + 4]))
    return found


def run(arguments: Sequence[str], trace: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*guard(trace), sys.executable, *arguments],
        input=given,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
    )


def test_the_guard_sees_an_address_of_any_process(tmp_path: Path) -> None:
    child = "import socket; socket.socket().connect_ex(('127.0.0.2', 9))"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    run(["-c", parent], tmp_path / "trace")
    assert set(addresses(tmp_path / "trace")) == {("127.0.0.2", 9)}


@pytest.mark.parametrize("ocr", ["off", "find"])
def test_serving_connects_to_the_two_upstreams_only(ocr: str, tmp_path: Path) -> None:
    trace, local_port = tmp_path / "trace", free_port()
    with StandInCloud() as cloud:
        cloud_port = int(cloud.base_url.rsplit(":", 1)[1].split("/")[0])
        env = {"RINGFENCE_EMBEDDED_PORT": str(local_port), "RINGFENCE_OCR": ocr}
        # what reads pictures keeps what it could not send, and sends it another time
        env["HOME"] = str(tmp_path)
        env["RINGFENCE_EMBEDDING_MODEL_DIR"] = str(encoder_dir())
        with running_proxy(tmp_path, cloud.base_url, env, under=guard(trace)) as proxy:
            for content in (*TEXTS, REMOTE_IMAGE, LOCAL_IMAGE):
                message = {"role": "user", "content": content}
                body = {"model": "ringfence", "messages": [message], "max_tokens": 4}
                assert proxy.post(json.dumps(body).encode()).status_code in (200, 400, 503)
        assert len(cloud.requests) == 1
    assert not (tmp_path / ".cache" / "Microsoft").exists()
    used = addresses(trace)
    assert set(used) == {("127.0.0.1", local_port), ("127.0.0.1", cloud_port)}, used


def test_inspecting_connects_to_nobody(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    lines = "".join(f"{json.dumps({'id': str(n), 'text': t})}\n" for n, t in enumerate(TEXTS))
    done = run(["-m", "proxy", "inspect", "--jsonl"], trace, lines)
    actions = [json.loads(line)["action"] for line in done.stdout.splitlines()]
    assert actions == ["local_only", "local_only", "local_only", "allow"]
    assert addresses(trace) == {}
