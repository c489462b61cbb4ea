"""The model routes."""

from __future__ import annotations

import json

import pytest

from tests.proxy.api.front_door import FrontDoor
from tests.proxy.api.test_app import get
from tests.proxy.api.test_gate import code, status


def test_lists_the_models_of_now(door: FrontDoor) -> None:
    got = json.loads(door.raw(get(b"/v1/models")).partition(b"\r\n\r\n")[2])
    assert got["object"] == "list"
    assert [card["id"] for card in got["data"]] == ["small", "org/large"]


@pytest.mark.parametrize("path", [b"small", b"org/large", b"org%2Flarge"])
def test_shows_one_model(door: FrontDoor, path: bytes) -> None:
    assert status(door.raw(get(b"/v1/models/" + path))) == 200


@pytest.mark.parametrize("path", [b"other", b"smal", b"small2", b"SMALL", b"org/small"])
def test_an_unknown_model_is_404(door: FrontDoor, path: bytes) -> None:
    got = door.raw(get(b"/v1/models/" + path))
    assert (status(got), code(got)) == (404, "model_not_found")
