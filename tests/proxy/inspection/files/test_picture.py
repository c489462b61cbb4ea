"""Pictures, read by the real OCR: what is found counts; what that is worth is the operator's."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from proxy.inspection.files import Extract, Ocr, read_file
from proxy.inspection.registry import DetectorConfig
from proxy.inspection.run import ProcessInspector
from proxy.types import Inspection, JSONObject, UnscannableReason

pytest.importorskip("rapidocr", reason="the extra ocr is not installed")

from PIL import Image, ImageDraw, ImageFilter, ImageFont, PngImagePlugin

pytestmark = pytest.mark.slow

CARD = "4111 1111 1111 1111"
IMAGE = UnscannableReason.IMAGE


def a_picture(
    *lines: str,
    kind: str = "PNG",
    edit: Callable[[Image.Image], None] = lambda _: None,
    **save: object,
) -> bytes:
    """Lines of text, black on white."""
    picture = Image.new("RGB", (640, 40 + 40 * max(len(lines), 1)), "white")
    font = ImageFont.load_default(size=26)
    for number, line in enumerate(lines):
        ImageDraw.Draw(picture).text((20, 20 + 40 * number), line, fill="black", font=font)
    edit(picture)
    out = io.BytesIO()
    picture.save(out, kind, **save)
    return out.getvalue()


def read(data: bytes, ocr: Ocr = Ocr.CLEAR, kind: str = "png") -> Extract:
    return read_file(data, f"image/{kind}", ocr)


TEXT = a_picture("Invoice for Jane Doe", f"Card: {CARD}")


@pytest.mark.parametrize(("ocr", "reason"), [(Ocr.FIND, IMAGE), (Ocr.CLEAR, None)])
def test_reads_what_a_picture_shows(ocr: Ocr, reason: UnscannableReason | None) -> None:
    extract = read(TEXT, ocr)
    (text,) = extract.texts
    assert CARD in text
    assert "Jane Doe" in text
    assert extract.reason is reason


def test_is_unread_where_it_is_switched_off() -> None:
    assert read(TEXT, Ocr.OFF) == Extract(reason=IMAGE)


def blurred(picture: Image.Image) -> None:
    picture.paste(picture.filter(ImageFilter.GaussianBlur(6)))


def note(key: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text(key, "taken by Jane Doe")
    return info


def with_place() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = "at Jane's"
    return exif


UNCLEAR = {
    "no text": a_picture(),
    "a comment in its header": a_picture("Hello there", pnginfo=note("Comment")),
    "bytes behind it": a_picture("Hello there") + b"Jane Doe",
    "more than one picture": a_picture(
        "Hello there", kind="PNG", save_all=True, append_images=[Image.new("RGB", (640, 80))]
    ),
    "text that cannot be made out": a_picture("Hello there, Jane Doe", edit=blurred),
}


@pytest.mark.parametrize("data", UNCLEAR.values(), ids=UNCLEAR.keys())
def test_a_picture_that_may_hold_more_stays_unread_whatever_the_setting(data: bytes) -> None:
    assert read(data).reason is IMAGE


def test_a_photo_that_says_where_it_was_taken_stays_unread() -> None:
    assert read(a_picture("Hello", kind="JPEG", exif=with_place()), kind="jpeg").reason is IMAGE
    assert read(a_picture("Hello there", kind="JPEG"), kind="jpeg").reason is None


def large() -> bytes:
    out = io.BytesIO()
    Image.new("1", (5_000, 5_000)).save(out, "PNG")
    return out.getvalue()


BROKEN = {
    "too large": (large(), "too_long"),
    "no picture": (b"hello", "undecodable"),
    "cut": (TEXT[:-200], "undecodable"),
    "a PDF as well": (TEXT + b"%PDF-1.4", "image"),
    "another format": (a_picture("Hello", kind="BMP"), "undecodable"),
}


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_such_picture_is_unread(data: bytes, reason: str) -> None:
    assert read(data) == Extract(reason=UnscannableReason(reason))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inspector() -> AsyncIterator[ProcessInspector]:
    made = ProcessInspector(
        num_workers=1, timeout_s=60.0, config=DetectorConfig(("en",), ocr=Ocr.CLEAR)
    )
    await made.start()
    yield made
    await made.aclose()


def asking(data: bytes) -> JSONObject:
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    part: JSONObject = {"type": "image_url", "image_url": {"url": url}}
    return {"messages": [{"role": "user", "content": [part]}]}


def entities(inspection: Inspection) -> set[str]:
    return {finding.entity for finding in inspection.findings}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_worker_reads_pictures_one_after_the_other(inspector: ProcessInspector) -> None:
    inspection = await inspector.inspect(asking(TEXT))
    assert {"CREDIT_CARD", "PERSON"} <= entities(inspection)
    assert inspection.unscannable == ()
    other = await inspector.inspect(asking(a_picture("my ssn is 536-22-8726")))
    assert "US_SSN" in entities(other)
    empty = await inspector.inspect(asking(a_picture()))
    assert {entry.reason for entry in empty.unscannable} == {IMAGE}
