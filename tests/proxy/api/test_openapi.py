"""The published OpenAPI says what the code does; the drill of the same name asks a real proxy."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.api.gate import DOORS
from proxy.api.openapi import codes_of, openapi, openapi_text
from proxy.api.wire import parse_request
from proxy.errors import RequestError
from proxy.routes.form import file_of
from proxy.routes.registry import ROUTES
from proxy.types import Caller
from tests.harness import ROOT
from tests.proxy.api.front_door import FrontDoor
from tests.proxy.api.test_gate import status

GOOD: dict[str, Any] = {
    "messages": [{"role": "user", "content": "a"}],
    "prompt": "a",
    "input": "a",
    "file": file_of("audio", "a.wav", "audio/wav", b"RIFF"),
    "image": file_of("image", "a.png", "image/png", b"PNG"),
}
RANGED = [
    (name, parameter)
    for name, route in ROUTES.items()
    for parameter in route.takes.ranges
    if parameter != "top_logprobs"  # it needs another one
]


def schema_of(name: str) -> Any:
    path = openapi()["paths"][f"/v1{ROUTES[name].path}"]
    kind = "multipart/form-data" if ROUTES[name].form else "application/json"
    return path["post"]["requestBody"]["content"][kind]["schema"]


def refused(name: str, parameter: str, value: object) -> str | None:
    """The parameter for which the route refuses a request with this one; None: it takes it."""
    route = ROUTES[name]
    body = {"model": "m", **{need: GOOD[need] for need in route.takes.needs}, parameter: value}
    caller, now = Caller("a", "t", "e", "k"), datetime.now(UTC)
    try:
        parse_request(route, body, caller, request_id="req_1", received_at=now)
    except RequestError as error:
        return error.param
    return None


@pytest.mark.parametrize(("name", "parameter"), RANGED)
def test_the_limits_it_tells_are_the_ones_that_hold(name: str, parameter: str) -> None:
    told = schema_of(name)["properties"][parameter]
    as_sent = str if ROUTES[name].form else lambda value: value
    schema = told if ROUTES[name].form else told["anyOf"][0]
    low, high = schema["minimum"], schema["maximum"]
    assert [refused(name, parameter, as_sent(value)) for value in (low, high)] == [None, None]
    beyond = [refused(name, parameter, as_sent(value)) for value in (low - 1, high + 1)]
    assert beyond == [parameter, parameter]


@pytest.mark.parametrize("name", ROUTES)
def test_what_it_calls_needed_is_needed(name: str) -> None:
    schema = schema_of(name)
    needed = [one for one in schema["required"] if one != "model"]
    assert needed
    for parameter in needed:
        assert refused(name, parameter, None) == parameter
        assert refused(name, parameter, GOOD[parameter]) is None


def test_every_code_is_explained() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    told = set(re.findall(r"`([a-z_]+)`", page))
    codes = {code for door in DOORS for some in codes_of(door).values() for code in some}
    assert codes - told == set()


def test_every_code_that_a_client_can_get_is_listed() -> None:
    """Those of the page's tables, but for our bugs and for what only other methods get."""
    page = (ROOT / "docs" / "errors.md").read_text()
    rows = re.findall(r"^\| (`[^|]*) \| ([\d, ]+) \|", page, re.MULTILINE)
    told = {
        code
        for codes, statuses in rows
        if statuses.strip() not in ("405", "500")
        for code in re.findall(r"`([a-z_]+)`", codes)
    }
    listed = {code for door in DOORS for some in codes_of(door).values() for code in some}
    assert len(told) > 40
    assert told - listed == {"budgets_unavailable"}  # only at the start


def test_a_500_is_on_no_list() -> None:
    assert all(500 not in codes_of(door) for door in DOORS)


def test_it_is_served_as_it_is_published(door: FrontDoor) -> None:
    got = door.raw(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status(got) == 200
    assert json.loads(got.partition(b"\r\n\r\n")[2]) == json.loads(openapi_text())
    assert next(one for one in DOORS if one.name == "openapi").needs_key
