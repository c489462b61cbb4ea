"""How many tokens a destination says that an answer took; it may write any number."""

from __future__ import annotations

from typing import Final

from proxy.types import JSON

#: More tokens than any answer has.
_MAX_TOKENS: Final = 2**24


def usage_of(usage: JSON) -> tuple[int | None, int | None]:
    """Tokens in and out; None: not told. An embedding has none out, and says so in the total."""
    tokens_in = _count(usage, "prompt_tokens", "input_tokens")
    tokens_out = _count(usage, "completion_tokens", "output_tokens")
    if tokens_out is None and tokens_in is not None:
        total = _count(usage, "total_tokens")
        tokens_out = total - tokens_in if total is not None and total >= tokens_in else None
    return tokens_in, tokens_out


def _count(usage: JSON, *names: str) -> int | None:
    """A count by the first of its ``names`` that is there; the routes do not agree on one."""
    found = [usage.get(name) for name in names] if isinstance(usage, dict) else []
    numbers = (value for value in found if isinstance(value, int) and not isinstance(value, bool))
    return next((value for value in numbers if 0 <= value <= _MAX_TOKENS), None)
