"""What a reader of files hands back, and how it says that it cannot read."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from proxy.types import UnscannableReason


@dataclass(frozen=True, slots=True)
class Extract:
    """The texts of a file, in more than one reading where they differ.

    ``reason`` is None when nothing else in the file could carry text.
    """

    texts: tuple[str, ...] = field(default=(), repr=False)
    reason: UnscannableReason | None = None


class Ocr(enum.StrEnum):
    """What is done with a picture."""

    OFF = "off"  # it is not read
    FIND = "find"  # what it shows counts for rules; the picture still counts as unread
    CLEAR = "clear"  # a picture of text that was read with confidence counts as read


class Unreadable(Exception):
    """A file, or a part of it, that cannot be read. It says why and holds none of its content."""

    def __init__(self, reason: UnscannableReason) -> None:
        super().__init__(reason.value)
        self.reason = reason
