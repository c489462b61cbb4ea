"""How much a JSON text would make a reader build, told without building it.

A reader that recurses or allocates first and asks afterwards can be made to do either without
end, so depth and number of values are measured on the bytes. It must never take time or memory
beyond a small multiple of the text's length.
"""

from __future__ import annotations

from typing import Final

from proxy.errors import RequestError

#: Most values (members, items) of one body. 10 MB of ``[[],[],...`` would be 200 MB of lists.
MAX_VALUES: Final = 100_000

_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


def check_shape(raw: bytes, *, max_depth: int, max_values: int = MAX_VALUES) -> None:
    """Refuse a text that is nested too deep or holds too many values.

    Exact up to the first byte that is not JSON, where the reader stops as well.

    Raises:
        RequestError: ``too_deep`` or ``too_many_values``.
    """
    # Outside of strings JSON has no backslash, so with the escapes gone quotes only delimit.
    plain = raw.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in raw else raw
    if plain.count(b'"') > 4 * max_values:  # a member has at most a key and a string: 4 quotes
        raise _too_many(max_values)
    structure = b"".join(plain.split(b'"')[::2])
    if sum(map(structure.count, (b",", b"[", b"{"))) > max_values:
        raise _too_many(max_values)
    depth = 0
    for bracket in structure.translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > max_depth:
            raise RequestError(
                f"The body is nested deeper than {max_depth} levels.", code="too_deep"
            )


def _too_many(max_values: int) -> RequestError:
    return RequestError(f"The body holds more than {max_values} values.", code="too_many_values")
