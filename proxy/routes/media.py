"""Pictures and recordings: made, changed and heard at home, or not at all.

What somebody wants drawn is text like any other, and is inspected; so is what stands in a form
beside a recording or a picture, which nobody can inspect. No destination gets any of it: an answer
of pictures is nothing that inspection could read.

Source: platform.openai.com/docs/api-reference/images and audio.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from proxy.routes.fields import STRING, Kind, invalid, required
from proxy.routes.form import (
    FILE,
    FORM_FALSE,
    FORM_INTEGER,
    FORM_NUMBER,
    Form,
    check_file,
    check_form,
)
from proxy.routes.route import ApiRoute, Raw, Reading, Takes, ask_for, stays_home
from proxy.routes.saying import texts_said
from proxy.types import JSON, JSONObject

#: OpenAI's longest prompt for a picture is 32,000 characters, of up to four bytes each.
MAX_FIELD_BYTES: Final = 128 * 1024
#: Up to 16 pictures, a mask, and every field there is.
MAX_PARTS: Final = 64

_NO_PICTURES: Final = (
    "No on-premises model makes pictures here, and requests for them never leave: nobody could "
    f"inspect the answer. {ask_for('IMAGES')}"
)
_NO_CHANGES: Final = (
    "No on-premises model changes pictures here, and pictures never leave on this route: nobody "
    f"could inspect the answer. {ask_for('IMAGES')}"
)
_NO_EARS: Final = (
    "No on-premises model turns sound into text here, and sound never leaves: nobody could "
    f"inspect it. {ask_for('TRANSCRIPTION')}"
)

#: What an answer may be asked for as; subtitles and speakers are left to no local model.
SOUND_FORMATS: Final = ("json", "text", "verbose_json")
_SOUND: Final = {"prompt": STRING, "response_format": STRING, "temperature": FORM_NUMBER}
TRANSCRIPTION: Final = {**_SOUND, "language": STRING, "stream": FORM_FALSE}
#: Fields that no local model is known to heed, and that would change the answer.
UNHEARD: Final = (
    "chunking_strategy",
    "include",
    "known_speaker_names",
    "known_speaker_references",
)
_SOUND_RANGES: Final[dict[str, tuple[float, float]]] = {"temperature": (0, 1)}
_PICTURE: Final = {
    "n": FORM_INTEGER,
    "response_format": STRING,
    "size": STRING,
    "user": STRING,
}
EDIT: Final = {**_PICTURE, "mask": FILE, "quality": STRING, "stream": FORM_FALSE}
_PICTURE_RANGES: Final[dict[str, tuple[float, float]]] = {"n": (1, 10)}


def check_picture(body: JSONObject) -> None:
    """Check what is to be drawn."""
    required(body, "prompt", STRING)


def check_transcription(body: JSONObject) -> None:
    """Check what is to be written down."""
    _check_sound(body, TRANSCRIPTION)


def check_translation(body: JSONObject) -> None:
    """Check what is to be written down in English."""
    _check_sound(body, _SOUND)


def _check_sound(body: JSONObject, kinds: dict[str, Kind]) -> None:
    check_file(body, "file")
    check_form(body, kinds, _SOUND_RANGES, UNHEARD)
    if body.get("response_format", "json") not in SOUND_FORMATS:
        raise invalid("response_format", f"must be one of: {', '.join(SOUND_FORMATS)}")


def check_edit(body: JSONObject) -> None:
    """Check what is to be changed, and how."""
    check_file(body, "image", or_list=True)
    required(body, "prompt", STRING)
    check_form(body, EDIT, _PICTURE_RANGES)


def check_variation(body: JSONObject) -> None:
    """Check what is to be varied."""
    check_file(body, "image")
    check_form(body, _PICTURE, _PICTURE_RANGES)


def read(answer: JSONObject) -> Reading | None:
    """A picture has neither words nor log-probabilities."""
    return Reading() if isinstance(answer.get("data"), list) else None


def heard(answer: JSONObject) -> Reading | None:
    """What was heard in a recording, its log-probabilities left alone."""
    text = answer.get("text")
    return Reading(text) if isinstance(text, str) else None


def _drawn(answer: JSONObject) -> tuple[str, ...]:
    """All that is said beside the pictures, as what a model made of the words of a request."""
    pictures = answer.get("data")
    beside = [
        {name: member for name, member in one.items() if name != "b64_json"}
        if isinstance(one, dict)
        else one
        for one in (pictures if isinstance(pictures, list) else ())
    ]
    return texts_said({**answer, "data": beside})


def _as_text(body: JSONObject, answer: JSONObject) -> Raw | None:
    wants_text = body.get("response_format") == "text"
    return Raw("text/plain", f"{answer.get('text')}\n".encode()) if wants_text else None


def _ask_for_json(body: JSONObject) -> JSONObject:
    wants_text = body.get("response_format") == "text"
    return {**body, "response_format": "json"} if wants_text else body


def _of_sound(route: ApiRoute) -> ApiRoute:
    """``route`` with a recording in a form; what was said in it pins like any answer."""
    return replace(
        route,
        at_home=replace(route.at_home, ask=_ask_for_json),
        form=Form("audio", MAX_PARTS, MAX_FIELD_BYTES),
        raw=_as_text,
        raw_types=("text/plain",),
    )


def _of_pictures(route: ApiRoute) -> ApiRoute:
    return replace(route, texts=_drawn, form=Form("image", MAX_PARTS, MAX_FIELD_BYTES))


_FORMATS: Final[dict[str, JSON]] = {"enum": list(SOUND_FORMATS)}

IMAGES: Final = replace(
    stays_home(
        "images.generations",
        "/images/generations",
        check_picture,
        read,
        Takes({"prompt": STRING.schema}),
        _NO_PICTURES,
    ),
    texts=_drawn,
)
EDITS: Final = _of_pictures(
    stays_home(
        "images.edits",
        "/images/edits",
        check_edit,
        read,
        Takes({"image": FILE.schema, "prompt": STRING.schema}, EDIT, _PICTURE_RANGES),
        _NO_CHANGES,
    )
)
VARIATIONS: Final = _of_pictures(
    stays_home(
        "images.variations",
        "/images/variations",
        check_variation,
        read,
        Takes({"image": FILE.schema}, _PICTURE, _PICTURE_RANGES),
        _NO_CHANGES,
    )
)
TRANSCRIPTIONS: Final = _of_sound(
    stays_home(
        "audio.transcriptions",
        "/audio/transcriptions",
        check_transcription,
        heard,
        Takes({"file": FILE.schema}, TRANSCRIPTION, _SOUND_RANGES, {"response_format": _FORMATS}),
        _NO_EARS,
    )
)
TRANSLATIONS: Final = _of_sound(
    stays_home(
        "audio.translations",
        "/audio/translations",
        check_translation,
        heard,
        Takes({"file": FILE.schema}, _SOUND, _SOUND_RANGES, {"response_format": _FORMATS}),
        _NO_EARS,
    )
)
