"""Reads the text of a picture by OCR (RapidOCR), where it is installed and switched on.

OCR cannot prove that it read all that a picture shows. So what it finds counts for rules, and the
picture still counts as unread; only where the operator said so does a picture of text that was read
with confidence count as read. A picture without text never does: it may show a face.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any, Final

from proxy.inspection import offline
from proxy.inspection.files.extract import Extract, Unreadable
from proxy.types import UnscannableReason

MAX_PIXELS: Final = 16_000_000

#: Each line of a picture that counts as read has at least this confidence, in [0, 1].
MIN_CONFIDENCE: Final = 0.9

#: The formats that are read, and how each of them ends.
_ENDS: Final = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}

#: Fields of a picture's header that hold no text; any other may.
_PLAIN_FIELDS: Final = frozenset(
    "dpi gamma srgb aspect interlace transparency jfif jfif_version jfif_unit jfif_density "
    "progressive progression".split()
)

#: The models in the package. Each is named, so that none is ever fetched.
_MODELS: Final = {
    "Det.model_path": "PP-OCRv6_det_small.onnx",
    "Cls.model_path": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "Rec.model_path": "PP-OCRv6_rec_small.onnx",
}


def read_picture(data: bytes, *, may_clear: bool) -> Extract:
    """The text that a picture shows.

    Args:
        data: a PNG or JPEG file.
        may_clear: whether a picture of text that was read with confidence counts as read.

    Raises:
        Unreadable: no such picture, or too large.
    """
    plain = _check(data)
    lines, scores = _recognize(data)
    sure = bool(lines) and min(scores, default=0.0) >= MIN_CONFIDENCE
    cleared = may_clear and plain and sure
    reason = None if cleared else UnscannableReason.IMAGE
    return Extract(("\n".join(lines),) if lines else (), reason)


def load() -> None:
    """Load the models, and use them once: a process that is forked later has them in memory."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(out, "PNG")
    _recognize(out.getvalue())


def _check(data: bytes) -> bool:
    """Whether a picture holds nothing but its picture.

    Raises:
        Unreadable: it is none that is read here.
    """
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=tuple(_ENDS)) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise Unreadable(UnscannableReason.TOO_LONG)
        picture.load()
        plain = set(picture.info) <= _PLAIN_FIELDS and not picture.getexif()
        single = getattr(picture, "n_frames", 1) == 1
        return plain and single and data.endswith(_ENDS[str(picture.format)])


def _recognize(data: bytes) -> tuple[list[str], list[float]]:
    """The lines that a picture shows, from top to bottom, and how sure each of them is."""
    read = _engine()(data)
    lines = [str(line) for line in read.txts or ()]
    return lines, [float(score) for score in read.scores or ()]


@cache
def _engine() -> Any:
    offline.cut()
    import rapidocr

    folder = Path(rapidocr.__file__).parent / "models"
    return rapidocr.RapidOCR(
        params={
            **{key: str(folder / file) for key, file in _MODELS.items()},
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,  # it is forked
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Global.log_level": "critical",
            "Global.text_score": 0.0,  # what it is unsure of counts too
        }
    )
