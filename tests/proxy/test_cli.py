"""The command as a person runs it: results on standard output, faults in one line, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy import __version__
from tests.harness import free_port, ringfence

CANARY = "canary.person@canary-box.org"


def test_prints_its_version() -> None:
    assert ringfence("version").stdout == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "env", "named"),
    [
        (("serve",), {"RINGFENCE_PROT": "1"}, "RINGFENCE_PROT"),
        (("serve",), {"RINGFENCE_MODEL_DIR": "/nowhere"}, "ringfence model pull"),
        (("check",), {"RINGFENCE_PORT": "70000"}, "RINGFENCE_PORT"),
        (("ask", "Hello?"), {"RINGFENCE_PORT": "9"}, "ringfence serve"),
        (("inspect", "--jsonl"), {"RINGFENCE_POLICY_FILE": "/nowhere.yaml"}, "/nowhere.yaml"),
    ],
    ids=["unknown setting", "no model", "out of range", "nobody there", "no policy"],
)
def test_a_fault_is_one_line_and_no_traceback(
    arguments: tuple[str, ...], env: dict[str, str], named: str
) -> None:
    done = ringfence(*arguments, **env)
    assert done.returncode == 1
    assert named in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_wrong_usage_is_exit_code_2() -> None:
    assert ringfence("inspect").returncode == 2
    assert ringfence("sevre").returncode == 2


def test_check_fails_where_the_proxy_would_not_run(tmp_path: Path) -> None:
    done = ringfence(
        "check",
        RINGFENCE_LOCAL_BASE_URL=f"http://127.0.0.1:{free_port()}/v1",
        RINGFENCE_DATA_DIR=str(tmp_path),
        OPENAI_API_KEY="sk-canary-4711",
    )
    assert done.returncode == 1
    assert "BAD" in done.stdout
    assert "canary" not in done.stdout + done.stderr


def test_inspect_answers_each_line_and_prints_no_text() -> None:
    lines = [
        json.dumps({"id": "a", "text": f"Write to {CANARY}."}),
        json.dumps({"id": "b", "text": "Name a long river."}),
        f'{{"id": "c", "text": "{CANARY}',
    ]
    done = ringfence("inspect", "--jsonl", "--workers", "1", given="\n".join(lines) + "\n")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    first = next(found for found in told[0]["findings"] if found["entity"] == "EMAIL_ADDRESS")
    assert (first["start"], first["end"]) == (9, 9 + len(CANARY))
    assert [line.get("action") for line in told[:2]] == ["local_only", "allow"]
    assert len(told) == 3
    assert "error" in told[2]
    assert done.returncode == 1
    assert CANARY not in done.stdout + done.stderr
