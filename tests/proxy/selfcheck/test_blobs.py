"""The files and pictures of the matrix are what they say: others read them."""

from __future__ import annotations

import base64
import io

import docx
from PIL import Image

from proxy.selfcheck import blobs


def _data(url: str) -> bytes:
    return base64.b64decode(url.rpartition(",")[2], validate=True)


def test_a_picture_shows_digits_and_holds_a_note() -> None:
    with Image.open(io.BytesIO(_data(blobs.picture("4111", "a note")))) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert set(picture.tobytes()) == {0, 255}
        assert picture.info["Comment"] == "a note"
    assert blobs.picture("4111") != blobs.picture("4112")


def test_a_document_says_its_text() -> None:
    assert docx.Document(io.BytesIO(_data(blobs.document("Hello.")))).paragraphs[0].text == "Hello."


def test_a_sound_is_a_wave_with_a_note() -> None:
    sound = base64.b64decode(blobs.sound("a note"), validate=True)
    assert (sound[:4], sound[8:12]) == (b"RIFF", b"WAVE")
    assert int.from_bytes(sound[4:8], "little") == len(sound) - 8
    assert b"a note" in sound
