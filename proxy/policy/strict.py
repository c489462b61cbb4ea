"""What every part of a policy file is made of: the strict base, names, words, days."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,63}$")]
Label = Annotated[str, Field(min_length=1, max_length=128)]
Term = Annotated[str, Field(min_length=2, max_length=200)]
Why = Annotated[str, Field(min_length=3, max_length=500)]


def no_bool(value: object) -> object:
    """Python takes true for 1; a reader does not."""
    if isinstance(value, bool):
        raise ValueError("must be 1")
    return value


def _iso_day(value: object) -> object:
    """A day as it is written; pydantic would read a number as seconds since 1970."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return value
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    raise ValueError("must be a day, written 2026-12-31")


Day = Annotated[dt.date, BeforeValidator(_iso_day)]


class Strict(BaseModel):
    """Base of every part of a policy."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
