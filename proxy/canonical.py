"""JSON, read strictly and once, and written in one form only.

Two programs that read one text differently are a hole: what the proxy inspected must be what the
cloud reads. So whatever readers disagree on (duplicate keys, odd encodings, numbers out of range)
is refused here, and what leaves is written anew from what was read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Final, NoReturn

from proxy.errors import RequestError
from proxy.types import JSON, JSONObject

MAX_DEPTH: Final = 64

#: Beyond this, readers that keep numbers as doubles see another number (RFC 8259, section 6).
MAX_INTEGER: Final = 2**53

_BOMS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def parse_object(raw: bytes, *, max_depth: int = MAX_DEPTH) -> JSONObject:
    """Read ``raw`` as one JSON object.

    Raises:
        RequestError: not strict JSON (``code`` says why); the message never echoes the input.
    """
    text = _decode(raw)
    fault: RequestError | None = None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_number,
        )
    except RequestError as error:
        fault = RequestError(error.public_message, code=error.code)
    except json.JSONDecodeError as error:
        fault = RequestError(
            f"The body is not valid JSON at character {error.pos}.", code="invalid_json"
        )
    except RecursionError:
        fault = _too_deep(max_depth)
    if fault is not None:
        raise fault
    if not isinstance(value, dict):
        raise RequestError("The body must be a JSON object.", code="invalid_json")
    _check(value, max_depth, check_surrogates="\\u" in text)
    return value


def canonical_bytes(value: JSON) -> bytes:
    """Write ``value``: UTF-8, no spaces, keys in the order they were read."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _decode(raw: bytes) -> str:
    if raw.startswith(_BOMS):
        raise RequestError(
            "The body must be UTF-8 without a byte order mark.", code="invalid_encoding"
        )
    offset = 0
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        offset = error.start
    raise RequestError(f"The body is not valid UTF-8 at byte {offset}.", code="invalid_encoding")


def _object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise RequestError("The body holds an object with a duplicate key.", code="duplicate_key")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise RequestError("NaN and Infinity are not JSON.", code="invalid_json")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        raise RequestError("The body holds an integer beyond 2^53.", code="number_out_of_range")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or len(text) > 64:
        raise RequestError("The body holds a number out of range.", code="number_out_of_range")
    return number


def _check(value: JSON, max_depth: int, *, check_surrogates: bool) -> None:
    """Walk without recursion: the depth is the client's to choose."""
    level: list[JSON] = [value]
    depth = 0
    while level:
        depth += 1
        if depth > max_depth:
            raise _too_deep(max_depth)
        below: list[JSON] = []
        for item in level:
            if isinstance(item, dict):
                if check_surrogates:
                    _refuse_surrogates(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if check_surrogates:
            _refuse_surrogates(item for item in below if isinstance(item, str))
        level = [item for item in below if isinstance(item, dict | list)]


def _refuse_surrogates(texts: Iterable[str]) -> None:
    if any(_SURROGATE.search(text) for text in texts):
        raise RequestError("The body holds half of a surrogate pair.", code="invalid_encoding")


def _too_deep(max_depth: int) -> RequestError:
    return RequestError(f"The body is nested deeper than {max_depth} levels.", code="too_deep")
