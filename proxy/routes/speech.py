"""POST /v1/audio/speech: a text read aloud at home, or not at all.

The text is inspected like any other. No destination gets it: an answer of sound is nothing that
inspection could read. Between the stages the sound is JSON, as the files of a form are.

Source: platform.openai.com/docs/api-reference/audio/createSpeech.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from proxy.routes.fields import CHOICE, NUMBER, STRING, Kind, check_parameters, invalid, required
from proxy.routes.route import Raw, Reading, Takes, ask_for, stays_home
from proxy.types import JSON, JSONObject

PARAMETERS: Final[Mapping[str, Kind]] = {
    "instructions": STRING,
    "response_format": STRING,
    "speed": NUMBER,
    "stream_format": STRING,
    "voice": CHOICE,
}
RANGES: Final = {"speed": (0.25, 4)}
FORMS: Final[Mapping[str, Mapping[str, JSON]]] = {"stream_format": {"enum": ["audio"]}}

_BYTES: Final = "application/octet-stream"
#: What sound may be called; any other name of sound becomes bytes of no kind.
SOUND_TYPES: Final = (
    "audio/aac",
    "audio/flac",
    "audio/mp3",
    "audio/mpeg",
    "audio/ogg",
    "audio/opus",
    "audio/pcm",
    "audio/wav",
    "audio/x-wav",
    _BYTES,
)


def check(body: JSONObject) -> None:
    """Check what is to be read aloud, and how."""
    required(body, "input", STRING)
    check_parameters(body, PARAMETERS, RANGES)
    if body.get("stream_format") not in (None, "audio"):
        raise invalid("stream_format", "must be `audio`: this route does not stream events")


def taken(raw: Raw) -> JSONObject | None:
    """Sound as JSON; None where ``raw`` is none."""
    kind = raw.media_type.partition(";")[0].strip().lower()
    if not raw.content or not (kind.startswith("audio/") or kind == _BYTES):
        return None
    letters = base64.b64encode(raw.content).decode("ascii")
    return {"media_type": kind if kind in SOUND_TYPES else _BYTES, "sound": letters}


def told(_: JSONObject, answer: JSONObject) -> Raw:
    """The sound that `taken` made JSON of."""
    return Raw(str(answer["media_type"]), base64.b64decode(str(answer["sound"])))


_AT_HOME: Final = stays_home(
    "audio.speech",
    "/audio/speech",
    check,
    lambda _: Reading(),
    Takes({"input": STRING.schema}, PARAMETERS, RANGES, FORMS),
    "No on-premises model reads aloud here, and requests for it never leave: nobody could inspect "
    f"the answer. {ask_for('SPEECH')}",
)
SPEECH: Final = replace(
    _AT_HOME,
    at_home=replace(_AT_HOME.at_home, taken=taken),
    texts=lambda _: (),  # sound
    raw=told,
    raw_types=SOUND_TYPES,
)
