"""The caller from an API key, and from nothing else a client sends.

The table holds SHA-256 digests of keys (which are long and random, so a plain digest gives
nothing away), never keys. It must never log or show what a client sent as a key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from proxy.errors import RequestError, SettingsError
from proxy.types import Caller

MAX_TABLE_BYTES: Final = 2**20
#: RFC 6750, section 2.1: the token's characters; the length limit is ours.
_BEARER: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/=-]{1,512})")

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


@dataclass(frozen=True, slots=True)
class Key:
    """A known key: who holds it, and what it may see beyond the answer."""

    caller: Caller
    expose_route: bool = False
    read_metrics: bool = False


class AuthenticationError(RequestError):
    """No key, more than one, or one that is not in the table."""

    code = "invalid_api_key"
    http_status = 401


class Scopes(BaseModel):
    """What a key may see beyond the answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    expose_route: bool = False
    read_metrics: bool = False


class KeyEntry(BaseModel):
    """One row of the key table."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: Name
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    app: Name
    team: Name
    environment: Name
    scopes: Scopes = Scopes()


#: Who asks where there is no table.
_OPEN: Final = Caller("default", "default", "default", "open")


class KeyTable:
    """Looks keys up in constant time; without entries, every client is the one open caller."""

    def __init__(self, entries: Iterable[KeyEntry] | None = None) -> None:
        """Make a table.

        Args:
            entries: the known keys; None (not: no entries) for one open caller.

        Raises:
            SettingsError: two entries share an id or a key.
        """
        self._entries = None if entries is None else tuple(entries)
        for field in ("id", "sha256"):
            values = [getattr(entry, field) for entry in self._entries or ()]
            if len(set(values)) != len(values):
                raise SettingsError(f"the key table holds an {field} twice")

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """Read the YAML table: a list of `KeyEntry` rows. None: one open caller.

        Raises:
            SettingsError: the file cannot be used; names row and field, never a value.
        """
        if path is None:
            return cls()
        return cls(_read_rows(path))

    @property
    def is_open(self) -> bool:
        """Whether all clients are one caller."""
        return self._entries is None

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Key:
        """Say whose key these headers carry.

        Raises:
            AuthenticationError: not exactly one Authorization header, or no known key in it.
        """
        values = [value for name, value in headers if name == b"authorization"]
        if len(values) > 1:
            raise AuthenticationError("Send exactly one Authorization header.")
        if self._entries is None:
            return Key(_OPEN)
        match = _BEARER.fullmatch(values[0]) if values else None
        if match is None:
            raise AuthenticationError("Send your API key as `Authorization: Bearer <key>`.")
        digest = hashlib.sha256(match.group(1)).hexdigest()
        found: KeyEntry | None = None
        for entry in self._entries:  # all of them: the time must not tell which one was close
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        if found is None:
            raise AuthenticationError("This API key is not known.")
        return Key(_caller(found), found.scopes.expose_route, found.scopes.read_metrics)

    def caller(self, key_id: str) -> Caller | None:
        """The holder of a key by the key's id, as the table has it now."""
        if self._entries is None:
            return _OPEN if key_id == _OPEN.key_id else None
        return next((_caller(entry) for entry in self._entries if entry.id == key_id), None)


def _caller(entry: KeyEntry) -> Caller:
    return Caller(entry.app, entry.team, entry.environment, entry.id)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key that is given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping, each key once."""
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            raise yaml.YAMLError("duplicate key")
        return mapping


def _read_rows(path: Path) -> list[KeyEntry]:
    fault = ""
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise SettingsError(f"{path}: the key table is larger than {MAX_TABLE_BYTES} bytes")
        rows = yaml.load(path.read_bytes(), _StrictLoader)  # noqa: S506  (a SafeLoader)
        return TypeAdapter(list[KeyEntry]).validate_python(rows)
    except OSError as error:
        fault = f"the key table cannot be read ({error.strerror})"
    except (yaml.YAMLError, RecursionError):
        fault = "the key table is not valid YAML"
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        known = [part for part in first["loc"] if isinstance(part, int) or part in _KNOWN_NAMES]
        where = ".".join(str(part) for part in known) or "top level"
        fault = f"the key table is wrong at {where}: {first['type']}"
    raise SettingsError(f"{path}: {fault}")


_KNOWN_NAMES: Final = frozenset({*KeyEntry.model_fields, *Scopes.model_fields})
