"""Other people's clients, unmodified, against the whole proxy in front of a scripted upstream.

They live in environments of their own, since each brings its own versions of everything:
`make clients` makes them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from demo.stand_in_cloud import StandInCloud
from tests.clients.scripted import CITIES, DEGREES, VECTOR, Script
from tests.harness import ROOT, RunningProxy, running_proxy

SCRIPTS: Final = Path(__file__).parent / "others"
PYTHON: Final = ROOT / ".venv-clients" / "bin" / "python"
NODE_MODULES: Final = SCRIPTS / "node_modules"

SUNNY = "It is sunny there ({place})."
RIVER = "The Volga is a long river ({place})."
CALL = {"name": "weather", "arguments": {"city": "{city}"}}
FORM = {"city": "{city}", "degrees": DEGREES}

#: What each ask gives, whichever client asks.
EXPECTED: Final[dict[str, Any]] = {
    "chat": RIVER,
    "chat_async": RIVER,
    "stream": RIVER,
    "stream_helper": RIVER,
    "tools": CALL,
    "tool_loop": SUNNY,
    "structured": FORM,
    "structured_by_schema": FORM,
    "structured_stream": FORM,
    "structured_retry": FORM,
    "embeddings": list(VECTOR),
    "error": "model_not_found",
    "retry": RIVER,
}
ALL: Final = ("chat", "stream", "tools", "tool_loop", "structured")
ONCE: Final = ("embeddings", "error", "retry")

#: Each script, with what it asks at both places and what it asks at home alone.
CLIENTS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "openai_python_2.py": ((*ALL, "chat_async"), ONCE),
    "use_langchain.py": (ALL, ONCE),
    "use_llamaindex.py": (ALL, ONCE),
    "use_litellm.py": (ALL, ONCE),
    "use_instructor.py": (
        ("structured", "structured_by_schema", "structured_stream"),
        ("structured_retry",),
    ),
    "use_pydantic_ai.py": (
        ("chat", "stream", "tool_loop", "structured", "structured_by_schema"),
        ("error", "retry"),
    ),
    "use_openai_node.mjs": ((*ALL, "stream_helper"), ONCE),
    "use_vercel_ai.mjs": (ALL, ONCE),
}
ASKS: Final = [
    (script, ask, place)
    for script, (both, home) in CLIENTS.items()
    for ask, place in [
        *((ask, place) for ask in both for place in ("home", "cloud")),
        *((ask, "home") for ask in home),
    ]
]

Told = dict[tuple[str, str], object]


@pytest.fixture(scope="module")
def cloud() -> Iterator[StandInCloud]:
    with StandInCloud(reply=Script("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(cloud: StandInCloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """One proxy for all clients, with a scripted upstream on either side."""
    with StandInCloud(reply=Script("home")) as local:
        env = {"RINGFENCE_LOCAL_BASE_URL": local.base_url}
        folder = tmp_path_factory.mktemp("others")
        with running_proxy(folder, cloud.base_url, env) as running:
            yield running


@pytest.fixture(scope="module")
def run(proxy: RunningProxy) -> Callable[[str], Told]:
    """What a script tells; it runs once, when the first test of it asks."""

    @cache
    def told(script: str) -> Told:
        command = [_interpreter(script), str(SCRIPTS / script)]
        env = {"PATH": os.environ["PATH"], "HOME": str(proxy.data_dir)}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=110,
            env=env | {"BASE_URL": f"{proxy.url}/v1", "CLIENT": script},
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"ask"')]
        assert lines, done.stderr
        return {(line["ask"], line["place"]): line["value"] for line in lines}

    return told


def _interpreter(script: str) -> str:
    """What runs ``script``; its tests are skipped where its environment is not there."""
    if not (PYTHON.exists() and NODE_MODULES.exists()):
        pytest.skip("other clients are not installed: run `make clients`")
    return "node" if script.endswith(".mjs") else str(PYTHON)


@pytest.mark.parametrize(("script", "ask", "place"), ASKS, ids=lambda part: str(part))
def test_a_client_gets_what_it_asked_for(
    run: Callable[[str], Told], script: str, ask: str, place: str
) -> None:
    assert run(script)[ask, place] == _filled(EXPECTED[ask], place)


def _filled(expected: Any, place: str) -> Any:
    """``expected`` with the words of the tier that should have answered."""
    if isinstance(expected, dict):
        return {name: _filled(value, place) for name, value in expected.items()}
    if isinstance(expected, str):
        return expected.format(place=place, city=CITIES[place])
    return expected


def test_what_had_to_stay_stayed(run: Callable[[str], Told], cloud: StandInCloud) -> None:
    for script in CLIENTS:
        run(script)
    assert cloud.requests
    assert b"Jane" not in cloud.received
