"""Identifiers made by us: sortable by time, unguessable, safe in logs, headers and records."""

from __future__ import annotations

import secrets
import time


def new_id(prefix: str) -> str:
    """``<prefix>_`` and 28 hex digits: 12 of the time in ms, 16 random (64 bits)."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"
