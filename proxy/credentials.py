"""Which key is shown to which host: no provider gets the key of another.

A key of the settings goes to every host that policy or settings name. One of the credentials file
is bound to an origin, so that nobody who edits a policy sends it elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from proxy.address import origin_of
from proxy.errors import SettingsError
from proxy.settings import PREFIX, Settings
from proxy.tables import load_table

_SETTING: Final = f"{PREFIX}CREDENTIALS_FILE"

#: No user, no path.
_ORIGIN: Final = r"^https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?$"

#: What can stand in a header.
_FORM: Final = re.compile(r"[!-~]+")


class _Entry(BaseModel):
    """The key of one origin: itself, or the environment variable that holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    origin: Annotated[str, Field(pattern=_ORIGIN), AfterValidator(origin_of)]
    key: SecretStr | None = None
    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None

    @model_validator(mode="after")
    def _has_one_key(self) -> _Entry:
        if (self.key is None) == (self.env is None):
            raise ValueError("must have either `key` or `env`, the variable that holds it")
        return self


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    credentials: list[_Entry] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_each_once(self) -> _File:
        if len({entry.origin for entry in self.credentials}) < len(self.credentials):
            raise ValueError("names an origin twice")
        return self


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys by origin, and the one of every other host, if there is one."""

    by_origin: Mapping[str, str] = field(default_factory=dict, repr=False)
    other: str | None = field(default=None, repr=False)

    def of(self, base_url: str) -> str | None:
        """The key for the host of ``base_url``; None: it gets none."""
        return self.by_origin.get(origin_of(base_url), self.other)


def cloud_credentials(settings: Settings) -> Credentials | None:
    """The keys for cloud destinations; None: there is none, so nothing leaves.

    Raises:
        SettingsError: the file cannot be read, or what it names holds no key.
    """
    if settings.credentials_file is not None:
        return _load(settings.credentials_file)
    key = settings.cloud_api_key
    return Credentials(other=key.get_secret_value()) if key else None


def home_credentials(settings: Settings) -> Credentials:
    """The keys for the endpoints of the local tier.

    Raises:
        SettingsError: the file cannot be read, or what it names holds no key.
    """
    if settings.credentials_file is not None:
        return _load(settings.credentials_file)
    key = settings.local_api_key
    return Credentials(other=key.get_secret_value() if key else None)


def _load(path: Path) -> Credentials:
    table = load_table(path, _File, _SETTING)
    return Credentials({entry.origin: _key_of(entry) for entry in table.credentials})


def _key_of(entry: _Entry) -> str:
    if entry.env is not None:
        key, where = os.environ.get(entry.env, ""), f"the variable {entry.env}"
    else:
        key, where = entry.key.get_secret_value() if entry.key else "", f"`key` of {entry.origin}"
    if not _FORM.fullmatch(key):
        raise SettingsError(f"{_SETTING}: {where} holds no key: it must be visible ASCII")
    return key
