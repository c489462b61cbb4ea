"""The settings of the local tier, against real servers: each route at its place, by its model."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from demo.stand_in_cloud import StandInCloud
from proxy.assembly import Proxy
from proxy.local.places import abroad, places
from proxy.local.tier import LocalTier
from proxy.settings import load_settings
from proxy.types import JSONObject
from tests.factories import a_request
from tests.harness import write_policy

OWN = ("embedding", "speech", "transcription", "images")
ASKED: dict[str, tuple[str, JSONObject]] = {
    "chat.completions": ("words", {"messages": [{"role": "user", "content": "hi"}]}),
    "moderations": ("words", {"input": "hi"}),
    "embeddings": ("embedding", {"input": "hi"}),
    "audio.speech": ("speech", {"input": "hi"}),
    "images.generations": ("images", {"prompt": "hi"}),
}


def test_a_place_is_named_as_its_settings_begin_and_no_route_has_two() -> None:
    found = places(load_settings({}))
    assert tuple(place.name for place in found) == OWN
    routes = [route for place in found for route in place.routes]
    assert len(routes) == len(set(routes)) == 7


@pytest.mark.parametrize(
    ("url", "is_abroad"),
    [
        ("https://API.openai.com:443/v2", True),
        ("http://10.0.0.7:8000/v1", True),
        ("http://10.0.0.7:8001/v1", False),
        ("https://openai.com/v1", False),
    ],
)
def test_an_endpoint_at_the_host_of_a_cloud_is_abroad_whatever_its_path(
    url: str, is_abroad: bool
) -> None:
    settings = load_settings({"RINGFENCE_IMAGES_BASE_URL": url, "RINGFENCE_IMAGES_MODEL": "m"})
    clouds = {"us": "https://api.openai.com/v1", "eu": "http://10.0.0.7:8000/cloud"}
    assert bool(abroad(settings, clouds)) == is_abroad


def test_a_policy_that_comes_to_call_the_home_a_cloud_says_so(tmp_path: Path) -> None:
    home = "http://127.0.0.1:8/v1"
    path = write_policy(tmp_path, None)
    env = {
        "RINGFENCE_POLICY_FILE": str(path),
        "RINGFENCE_DATA_DIR": str(tmp_path / "data"),
        "RINGFENCE_LOCAL_BASE_URL": home,
    }
    proxy = Proxy(load_settings(env))
    path.write_text(path.read_text().replace("http://127.0.0.1:9/v1", home))
    with capture_logs() as logs:
        proxy._keeper.check()
    assert [entry["event"] for entry in logs] == ["not_at_home"]


async def asked(apart: bool, route: str) -> tuple[str, str]:
    """The endpoint that ``route`` was asked at, and the model it was asked for."""
    named = {"words": "model-of-words", **{name: f"model-of-{name}" for name in OWN}}
    with contextlib.ExitStack() as stack:
        there = {name: stack.enter_context(StandInCloud()) for name in named}
        words = there["words"].base_url
        env = {"RINGFENCE_LOCAL_MODEL": named["words"]}
        for name in OWN:
            env[f"RINGFENCE_{name.upper()}_MODEL"] = named[name]
            if apart:
                env[f"RINGFENCE_{name.upper()}_BASE_URL"] = there[name].base_url
        tier = LocalTier.of(load_settings(env), words)
        body = {**ASKED[route][1], "model": "ringfence"}
        with contextlib.suppress(Exception):  # not every answer of a stand-in is one
            await tier.generate(replace(a_request(body), route=route))
        await tier.aclose()
        ((name, request),) = [(n, r) for n, one in there.items() for r in one.requests]
        return name, json.loads(request.body)["model"]


@pytest.mark.parametrize("route", ASKED)
async def test_a_route_is_asked_at_its_place_by_its_model(route: str) -> None:
    place = ASKED[route][0]
    assert await asked(True, route) == (place, f"model-of-{place}")


@pytest.mark.parametrize("route", ASKED)
async def test_without_an_address_the_endpoint_for_words_is_asked_for_that_model(
    route: str,
) -> None:
    assert await asked(False, route) == ("words", f"model-of-{ASKED[route][0]}")
