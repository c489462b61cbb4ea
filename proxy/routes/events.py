"""Server-sent events of a model server, read while they come, and never more than fits.

A server may write anything: a line without an end, an event without an end, one byte at a
time. What is kept is bounded, and each byte is looked at once.

Source: WHATWG HTML, section 9.2.6, "Interpreting an event stream".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from proxy.canonical import parse_object
from proxy.errors import RequestError
from proxy.types import JSONObject

#: The longest event, and the longest line of one, in bytes. A chunk of an answer has a few hundred.
MAX_EVENT_BYTES: Final = 2**20

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"


class BrokenStream(Exception):
    """A stream that cannot be read on.

    Attributes:
        error_type: why, as a word for the record; nothing of what came.
    """

    def __init__(self, error_type: str) -> None:
        super().__init__(error_type)
        self.error_type = error_type


class EventReader:
    """Tells the ``data`` of each event of one stream; all other fields say nothing here."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._most = max_event_bytes
        self._line = bytearray()  # what has come of the line that is not at its end
        self._data: list[bytes] = []
        self._num_data_bytes = 0
        self._is_first = True
        self._after_return = False  # a line ended in a return: a line feed may belong to it

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The events that end in ``data``.

        Raises:
            BrokenStream: ``too_large``.
        """
        if self._after_return and data:
            data = data.removeprefix(b"\n")
            self._after_return = False
        start = 0
        for end in _LINE_END.finditer(data):
            line = self._whole(data[start : end.start()])
            start = end.end()
            self._after_return = end.group() == b"\r" and start == len(data)
            yield from self._take(line)
        self._line += data[start:]
        if len(self._line) > self._most:
            raise BrokenStream("too_large")

    def _whole(self, rest: bytes) -> bytes:
        """The line that ``rest`` ends."""
        line = bytes(self._line) + rest
        self._line.clear()
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BOM)
        return line

    def _take(self, line: bytes) -> Iterator[bytes]:
        if not line:
            told, self._data, self._num_data_bytes = self._data, [], 0
            if told:
                yield b"\n".join(told)
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._num_data_bytes += len(line)
            if self._num_data_bytes > self._most:
                raise BrokenStream("too_large")


def read_object(data: bytes) -> JSONObject:
    """The JSON object in ``data``, read strictly.

    Raises:
        BrokenStream: ``garbage``; it has no context, which would hold text.
    """
    try:
        told: JSONObject | None = parse_object(data)
    except RequestError:
        told = None
    if told is None:
        raise BrokenStream("garbage")
    return told


def read_chunk(event: bytes, is_chunk: Callable[[JSONObject], bool] | None) -> JSONObject:
    """The chunk in ``event``; ``is_chunk`` tells those of its route, None: it has none.

    Raises:
        BrokenStream: ``garbage``, or ``upstream_error`` where it tells of one.
    """
    chunk = read_object(event)
    if chunk.get("error"):
        raise BrokenStream("upstream_error")
    if is_chunk is None or not is_chunk(chunk):
        raise BrokenStream("garbage")
    return chunk
