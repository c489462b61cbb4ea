"""Pictures and speech: read like any text, and never sent away."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import RequestError
from proxy.routes.media import IMAGES, SPEECH
from proxy.routes.route import ApiRoute


@pytest.mark.parametrize(
    ("route", "field"), [(IMAGES, "prompt"), (SPEECH, "input")], ids=["picture", "speech"]
)
def test_it_needs_its_text_and_never_leaves(route: ApiRoute, field: str) -> None:
    route.check({field: "a lighthouse"})
    assert route.abroad is None
    bodies: list[dict[str, Any]] = [{}, {field: 4}]
    for body in bodies:
        with pytest.raises(RequestError) as caught:
            route.check(body)
        assert caught.value.param == field


def test_only_pictures_are_an_answer() -> None:
    assert IMAGES.at_home.read({"created": 1, "data": [{"b64_json": "AAAA"}]}) is not None
    assert IMAGES.at_home.read({"choices": []}) is None
    assert SPEECH.at_home.read({"data": []}) is None
