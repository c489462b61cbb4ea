"""The lists that ship with the detectors, in ``proxy/inspection/data``."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml


def read_lines(file: str) -> list[str]:
    """The lines of a list, without its comments (``#``) and empty lines."""
    return [line for line in _read(file).splitlines() if line and line[0] != "#"]


def read_yaml(file: str) -> Any:
    """The content of a YAML file."""
    return yaml.safe_load(_read(file))


def _read(file: str) -> str:
    return (resources.files("proxy.inspection") / "data" / file).read_text(encoding="utf-8")
