"""The settings of the local tier, against real servers: each route at its place, by its model."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest

from demo.stand_in_cloud import StandInCloud
from proxy.local.places import places
from proxy.local.tier import LocalTier
from proxy.settings import load_settings
from proxy.types import JSONObject
from tests.factories import a_request

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
