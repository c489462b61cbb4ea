"""Pictures and speech: made at home, or not at all.

What somebody wants drawn or read aloud is text like any other, and is inspected. No destination
gets it: an answer of pictures or sound is nothing that inspection could read.

Source: platform.openai.com/docs/api-reference/images/create and audio/createSpeech.
"""

from __future__ import annotations

from typing import Final

from proxy.routes.fields import STRING, required
from proxy.routes.route import Reading, Takes, stays_home
from proxy.types import JSONObject


def check_picture(body: JSONObject) -> None:
    """Check what is to be drawn."""
    required(body, "prompt", STRING)


def check_speech(body: JSONObject) -> None:
    """Check what is to be read aloud."""
    required(body, "input", STRING)


def read(answer: JSONObject) -> Reading | None:
    """A picture has neither words nor log-probabilities; sound is no JSON and never comes here."""
    return Reading() if isinstance(answer.get("data"), list) else None


IMAGES: Final = stays_home(
    "images.generations",
    "/images/generations",
    check_picture,
    read,
    Takes({"prompt": STRING.schema}),
)
SPEECH: Final = stays_home(
    "audio.speech", "/audio/speech", check_speech, lambda _: None, Takes({"input": STRING.schema})
)
