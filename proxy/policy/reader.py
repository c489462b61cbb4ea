"""YAML, read strictly: one document, no anchors, no tags, no duplicate keys, no guessed types.

It remembers where every key and entry stands, so that a message or a decision can say so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from proxy.errors import PolicyError

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 32

Place = tuple[str | int, ...]


class _StrictLoader(yaml.SafeLoader):
    """Strings, integers, floats, true/false and null (YAML 1.2, core schema); nothing else."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _fault("aliases are not allowed", event.start_mark)
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise _fault("anchors and tags are not allowed", event.start_mark)
        return super().compose_node(parent, index)


# YAML 1.1 reads `no`, `on`, 0o17 and 12:30 as something else than they look; drop those readings.
_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
    ("int", r"^[-+]?(?:0|[1-9][0-9]{0,17})$", "-+0123456789"),
    ("float", r"^[-+]?[0-9]{1,17}\.[0-9]{1,17}$", "-+0123456789"),
):
    _StrictLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first)
    )


@dataclass(frozen=True, slots=True)
class Document:
    """A policy file: its members, its bytes, and where each part stands (line, column from 1)."""

    path: Path
    members: dict[str, Any]
    raw: bytes
    places: dict[Place, tuple[int, int]]

    def where(self, place: Place) -> tuple[int, int]:
        """Line and column of ``place``, or of the nearest part around it."""
        while place and place not in self.places:
            place = place[:-1]
        return self.places.get(place, (1, 1))


def read_document(path: Path) -> Document:
    """Read ``path``.

    Raises:
        PolicyError: missing, too large, or not strict YAML; says file, line and column.
    """
    problem, raw = "", b""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        problem = f"{path}: {error.strerror}"
    if len(raw) > MAX_BYTES:
        problem = f"{path}: larger than {MAX_BYTES} bytes"
    if problem:
        raise PolicyError(problem)
    return parse_document(path, raw)


def parse_document(path: Path, raw: bytes) -> Document:
    """Read ``raw``, the bytes of ``path``; see `read_document`."""
    problem, members = "", None
    places: dict[Place, tuple[int, int]] = {}
    try:
        text = raw.decode("utf-8")
        if text.startswith("\ufeff"):
            problem = f"{path}:1:1: starts with a byte order mark; save it without"
        else:
            node = yaml.compose(text, Loader=_StrictLoader)
            members = _value(node, (), places) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = f"{path}{where}: {error.problem}"
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        problem = f"{path}:1:1: not YAML in UTF-8, or nested too deeply"
    if not problem and not isinstance(members, dict):
        problem = f"{path}:1:1: must be a mapping of keys"
    if problem or not isinstance(members, dict):
        raise PolicyError(problem)
    return Document(path, members, raw, places)


def _value(node: yaml.Node, place: Place, places: dict[Place, tuple[int, int]]) -> Any:
    places.setdefault(place, (node.start_mark.line + 1, node.start_mark.column + 1))
    if len(place) > MAX_DEPTH:
        raise _fault(f"nested deeper than {MAX_DEPTH}", node.start_mark)
    if isinstance(node, yaml.MappingNode):
        return _members(node, place, places)
    if isinstance(node, yaml.SequenceNode):
        return [_value(part, (*place, index), places) for index, part in enumerate(node.value)]
    return _scalar(node)


def _members(
    node: yaml.MappingNode, place: Place, places: dict[Place, tuple[int, int]]
) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or not key.tag.endswith(":str"):
            raise _fault("a key must be a plain word", key.start_mark)
        if key.value in members:
            raise _fault(f"key {key.value!r} stands here twice", key.start_mark)
        inner = (*place, key.value)
        places[inner] = (key.start_mark.line + 1, key.start_mark.column + 1)
        members[key.value] = _value(value, inner, places)
    return members


def _scalar(node: yaml.Node) -> Any:
    kind = node.tag.rpartition(":")[2]
    text: str = node.value
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    return {"bool": text == "true", "null": None}.get(kind, text)


def _fault(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
