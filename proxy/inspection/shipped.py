"""The lists that ship with the detectors, in ``proxy/inspection/data``."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _Loader  # ten times as fast; the wheels of PyYAML have it
except ImportError:
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]


def read_lines(file: str) -> list[str]:
    """The lines of a list, without its comments (``#``) and empty lines."""
    return [line for line in _read(file).splitlines() if line and line[0] != "#"]


def read_yaml(file: str) -> Any:
    """The content of a YAML file."""
    return yaml.load(_read(file), Loader=_Loader)  # either is the safe one


def _read(file: str) -> str:
    return (resources.files("proxy.inspection") / "data" / file).read_text(encoding="utf-8")
