"""One way to ask a PDF's dictionary: with what it points at followed, which ``get`` does not do."""

from __future__ import annotations

from typing import Any

from pypdf.generic import DictionaryObject


def value_of(members: DictionaryObject, key: str) -> Any:
    """The value of ``key``, wherever it stands; None where there is none."""
    return members[key] if key in members else None
