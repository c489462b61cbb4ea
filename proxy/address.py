"""Addresses of endpoints: what may be one, and which host it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

_USUAL: Final[Mapping[str, int]] = {"http": 80, "https": 443}


def plain(url: str) -> SplitResult:
    """The parts of ``url``, which names a host over HTTP, and nothing that could hide or leak.

    Raises:
        ValueError: it does not, or has a user name, a query or a fragment.
    """
    try:
        parts = urlsplit(url)
        extra = parts.username is not None or parts.query or parts.fragment
        is_plain = bool(parts.hostname) and not extra and (parts.port is None or parts.port > 0)
        is_plain = is_plain and url.isprintable() and " " not in url
    except ValueError:
        is_plain = False
    if not is_plain or parts.scheme not in ("http", "https"):
        raise ValueError("must be a plain http(s) address, without user, query or fragment")
    return parts


def origin_of(url: str) -> str:
    """Scheme, host and port of ``url``, the port always named.

    Raises:
        ValueError: it is no plain address.
    """
    parts = plain(url)
    port = parts.port or _USUAL[parts.scheme]
    return f"{parts.scheme}://{parts.hostname}:{port}"


def host_of(url: str) -> str:
    """Host and port of ``url``, without the port that is usual for its scheme.

    Raises:
        ValueError: it is no plain address.
    """
    parts = plain(url)
    is_usual = parts.port in (None, _USUAL[parts.scheme])
    return str(parts.hostname) if is_usual else f"{parts.hostname}:{parts.port}"
