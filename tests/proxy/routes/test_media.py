"""Pictures and recordings: read like any text, and never sent away."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import RequestError
from proxy.routes.form import file_of
from proxy.routes.media import (
    EDITS,
    IMAGES,
    TRANSCRIPTIONS,
    TRANSLATIONS,
    UNHEARD,
    VARIATIONS,
)
from proxy.routes.route import ApiRoute, Raw

SOUND = file_of("audio", "a.wav", None, b"RIFF")
PICTURE = file_of("image", "a.png", "image/png", b"PNG")
FORMS: dict[str, tuple[ApiRoute, dict[str, Any]]] = {
    "transcription": (TRANSCRIPTIONS, {"file": SOUND}),
    "translation": (TRANSLATIONS, {"file": SOUND}),
    "edit": (EDITS, {"image": PICTURE, "prompt": "bluer"}),
    "variation": (VARIATIONS, {"image": PICTURE}),
}


def test_a_picture_needs_its_text_and_never_leaves() -> None:
    IMAGES.check({"prompt": "a lighthouse"})
    assert IMAGES.abroad is None
    bodies: list[dict[str, Any]] = [{}, {"prompt": 4}]
    for body in bodies:
        with pytest.raises(RequestError) as caught:
            IMAGES.check(body)
        assert caught.value.param == "prompt"


def test_only_pictures_are_an_answer() -> None:
    assert IMAGES.at_home.read({"created": 1, "data": [{"b64_json": "AAAA"}]}) is not None
    assert IMAGES.at_home.read({"choices": []}) is None
    assert TRANSCRIPTIONS.at_home.read({"text": "hello"}) is not None
    assert TRANSCRIPTIONS.at_home.read({"text": None}) is None


@pytest.mark.parametrize("name", FORMS)
def test_a_form_needs_its_file_and_never_leaves(name: str) -> None:
    route, good = FORMS[name]
    route.check(good)
    assert route.abroad is None
    field = next(iter(good))
    rest = {key: value for key, value in good.items() if key != field}
    for bad in (None, "text", [good[field]], {**good[field], "data": "data:audio/wav;base64,"}):
        with pytest.raises(RequestError) as caught:
            route.check({**rest, field: bad})
        assert caught.value.param == field


@pytest.mark.parametrize(
    ("name", "field", "value", "code"),
    [
        ("transcription", "temperature", "1.5", "invalid_value"),
        ("transcription", "temperature", "1e999", "invalid_type"),
        ("transcription", "temperature", "warm", "invalid_type"),
        ("transcription", "temperature", "\u0661", "invalid_type"),
        ("transcription", "response_format", "srt", "invalid_value"),
        ("transcription", "stream", "true", "invalid_value"),
        ("transcription", "stream", "yes", "invalid_type"),
        ("transcription", "prompt", SOUND, "invalid_type"),
        ("translation", "response_format", "vtt", "invalid_value"),
        *(("transcription", name, "auto", "unsupported_parameter") for name in UNHEARD),
        *(("transcription", f"{name}[]", ["x"], "unsupported_parameter") for name in UNHEARD),
        ("edit", "n", "11", "invalid_value"),
        ("edit", "n", "2.0", "invalid_type"),
        ("edit", "mask", "text", "invalid_type"),
        ("edit", "prompt", None, "missing_required_parameter"),
        ("edit", "stream", "true", "invalid_value"),
        ("edit", "image[]", ["text"], "invalid_type"),
        ("variation", "n", "0", "invalid_value"),
    ],
)
def test_a_field_of_another_kind_is_refused_by_name(
    name: str, field: str, value: Any, code: str
) -> None:
    route, good = FORMS[name]
    with pytest.raises(RequestError) as caught:
        route.check({**good, field: value})
    assert caught.value.code == code
    assert caught.value.param in (field, field.removesuffix("[]"))


def test_several_pictures_come_under_the_name_of_a_list() -> None:
    EDITS.check({"image[]": [PICTURE, PICTURE], "prompt": "join them"})
    with pytest.raises(RequestError):
        VARIATIONS.check({"image[]": [PICTURE]})


def test_text_is_asked_for_as_json_and_told_as_text() -> None:
    body: dict[str, Any] = {"file": SOUND, "response_format": "text"}
    assert TRANSCRIPTIONS.at_home.ask(body) == {"file": SOUND, "response_format": "json"}
    assert TRANSCRIPTIONS.raw(body, {"text": "hello"}) == Raw("text/plain", b"hello\n")
    assert TRANSCRIPTIONS.raw({"file": SOUND}, {"text": "hello"}) is None
    assert TRANSCRIPTIONS.texts({"text": "hello"}) == ("hello",)


@pytest.mark.parametrize("route", [IMAGES, EDITS, VARIATIONS])
def test_what_a_model_made_of_a_prompt_is_a_text_of_the_answer(route: ApiRoute) -> None:
    told: dict[str, Any] = {"created": 1, "data": [{"b64_json": "AA==", "revised_prompt": "Hm"}]}
    assert route.texts(told) == ("Hm",)
    assert route.texts({"data": [{"b64_json": "AA=="}, None]}) == ()
