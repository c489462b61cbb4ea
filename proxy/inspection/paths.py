"""JSON paths as segments name them."""

from __future__ import annotations

from typing import Final

#: A longer key is cut: each path under it repeats it, and it is the client's to choose.
MAX_KEY_CHARS: Final = 64


def child_path(path: str, key: str) -> str:
    """The path of the member ``key`` of the object at ``path``."""
    short = key if len(key) <= MAX_KEY_CHARS else f"{key[:MAX_KEY_CHARS]}\u2026"
    return f"{path}.{short}" if path else short
