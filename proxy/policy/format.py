"""Writes a policy file in one layout, and keeps its comments, quotes and order.

ruamel.yaml writes; our own strict reader judges. A file that is not strict, or that says anything
else after the rewriting than it did before, is left as it is.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from pathlib import Path
from typing import Final

from proxy.errors import PolicyError
from proxy.policy.reader import parse_document

#: Lines are not folded: where an author broke one, it stays broken.
_NEVER: Final = 1_000_000

_COMMENT: Final = re.compile(r"(?:^|\s)#")


def formatted(path: Path, raw: bytes) -> bytes:
    """The content of ``path`` in our layout: two spaces a level, lists set in by two.

    Raises:
        PolicyError: it is not strict YAML, or cannot be written anew without a change of meaning.
    """
    before = parse_document(path, raw)
    made = _rewritten(raw.decode("utf-8")).encode()
    after = parse_document(path, made)
    same = after.members == before.members and _types(after.members) == _types(before.members)
    settled = _rewritten(made.decode()) == made.decode()
    if not (same and settled and _num_comments(made) == _num_comments(raw)):
        raise PolicyError(f"{path}:1:1: cannot be laid out without a change; left as it is")
    return made


def _rewritten(text: str) -> str:
    from ruamel.yaml import YAML  # loaded late: only this command needs it

    yaml = YAML()  # the round-trip form, which keeps comments
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.preserve_quotes = True
    yaml.width = _NEVER
    out = io.StringIO()
    yaml.dump(yaml.load(text), out)
    lines = _with_comments_in_line([line.rstrip() for line in out.getvalue().splitlines()])
    return "\n".join(lines).rstrip("\n") + "\n"


def _with_comments_in_line(lines: list[str]) -> list[str]:
    """A comment on a line of its own stands as deep as its nearer neighbor."""
    content = [at for at, line in enumerate(lines) if line and not line.lstrip().startswith("#")]
    made = list(lines)
    for at, line in enumerate(lines):
        comment = line.lstrip()
        if comment.startswith("#"):
            next_ = bisect_right(content, at)
            near = content[next_ : next_ + 1] + content[max(next_ - 1, 0) : next_]
            depths = [_depth(lines[neighbor]) for neighbor in near]
            made[at] = " " * min(depths, key=lambda d: abs(d - _depth(line)), default=0) + comment
    return made


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _num_comments(raw: bytes) -> int:
    """Number of signs that may begin a comment; the same before and after."""
    return len(_COMMENT.findall(raw.decode("utf-8")))


def _types(value: object) -> object:
    """The types of all values: in Python, true is 1."""
    if isinstance(value, dict):
        return {key: _types(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_types(inner) for inner in value]
    return type(value)
