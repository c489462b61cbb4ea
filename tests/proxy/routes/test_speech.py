"""Speech: a text like any other, read aloud at home, as bytes."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import RequestError
from proxy.routes.route import Raw, Reading
from proxy.routes.speech import SOUND_TYPES, SPEECH, taken


def test_it_needs_its_text_and_never_leaves() -> None:
    SPEECH.check({"input": "a lighthouse", "voice": {"id": "v1"}, "stream_format": "audio"})
    assert SPEECH.abroad is None
    bodies: list[dict[str, Any]] = [{}, {"input": 4}]
    for body in bodies:
        with pytest.raises(RequestError) as caught:
            SPEECH.check(body)
        assert caught.value.param == "input"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("speed", 0.2, "invalid_value"),
        ("speed", "fast", "invalid_type"),
        ("voice", 7, "invalid_type"),
        ("response_format", {}, "invalid_type"),
        ("instructions", [], "invalid_type"),
        ("stream_format", "sse", "invalid_value"),
    ],
)
def test_a_field_of_another_kind_is_refused_by_name(field: str, value: Any, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        SPEECH.check({"input": "a lighthouse", field: value})
    assert (caught.value.code, caught.value.param) == (code, field)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        *((kind, kind) for kind in SOUND_TYPES),
        ("Audio/WAV; rate=24000", "audio/wav"),
        ("audio/x-made-up", "application/octet-stream"),
    ],
)
def test_sound_goes_through_json_unchanged(given: str, told: str) -> None:
    sound = bytes(range(256))
    answer = taken(Raw(given, sound))
    assert answer is not None
    assert SPEECH.at_home.read(answer) == Reading()
    assert SPEECH.raw({}, answer) == Raw(told, sound)
    assert told in SPEECH.raw_types


@pytest.mark.parametrize(
    "raw",
    [
        Raw("audio/mpeg", b""),
        Raw("application/json", b'{"error": "no"}'),
        Raw("text/event-stream", b"data: x"),
        Raw("text/html", b"<p>"),
        Raw("", b"ID3"),
    ],
    ids=lambda raw: raw.media_type,
)
def test_what_is_no_sound_is_no_answer(raw: Raw) -> None:
    assert taken(raw) is None
