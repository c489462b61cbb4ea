"""Lists told in pages, and what a query string may say about them.

Source: platform.openai.com/docs/api-reference, the list routes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request as HttpRequest

from proxy.errors import RequestError

MAX_QUERY_BYTES: Final = 2048
ORDERS: Final = ("asc", "desc")


def query_of(http: HttpRequest) -> dict[str, str]:
    """The query string; of a name that is given twice, the last value.

    Raises:
        RequestError: ``invalid_query``.
    """
    raw: bytes = http.scope["query_string"]
    if not raw:
        return {}
    try:
        if len(raw) > MAX_QUERY_BYTES:
            raise ValueError
        return dict(parse_qsl(raw.decode("ascii"), True, True, errors="strict", max_num_fields=20))
    except ValueError:
        pass
    raise RequestError("The query string cannot be read.", code="invalid_query")


def page_of(
    items: Sequence[Mapping[str, Any]], query: Mapping[str, str], *, default: int, most: int
) -> dict[str, Any]:
    """The page of ``items`` (oldest first) that ``limit``, ``order`` and ``after`` ask for.

    Raises:
        RequestError: ``invalid_value``.
    """
    limit = query.get("limit", str(default))
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= most:
        raise _invalid("limit", f"must be between 1 and {most}")
    order = query.get("order", "desc")
    if order not in ORDERS:
        raise _invalid("order", "must be asc or desc")
    rest = list(items if order == "asc" else reversed(items))
    if (after := query.get("after")) is not None:
        ids = [item["id"] for item in rest]
        rest = rest[ids.index(after) + 1 :] if after in ids else []
    page = rest[: int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(rest) > len(page),
    }


def _invalid(name: str, demand: str) -> RequestError:
    return RequestError(f"'{name}' {demand}.", code="invalid_value", param=name)
