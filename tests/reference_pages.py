"""The pages of docs/ that are made from the code: `make docs` writes them, a test compares them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined
from typer.main import get_command

from audit.field_names import FRAME, KINDS, Name
from audit.schema import schema_text
from proxy.api.openapi import openapi_text
from proxy.cli import app
from proxy.metrics import CATALOG, LABELS
from proxy.selfcheck.cells import FROM_INSIDE, ROUTES, Cell, Condition, all_cells
from proxy.settings import PREFIX, Settings
from tests.drills.matrix import stays_anyway

DOCS = Path(__file__).parent.parent / "docs"

_SETTINGS_HEAD = """# Settings

Each setting is an environment variable. An unknown `RINGFENCE_…` variable, or a value out of
range, keeps the proxy from starting. `OPENAI_API_KEY` stands in for `RINGFENCE_CLOUD_API_KEY`.

| variable | default | meaning |
|---|---|---|
"""

_COMMANDS_HEAD = """# Commands

Results go to standard output, logs to standard error. Exit code 0: fine; 1: a check failed;
2: wrong usage. `ringfence COMMAND --help` says the same on a terminal.
"""


_METRICS_HEAD = """# Metrics

`GET /metrics` gives counts in Prometheus' text form, of all server processes together; a gauge
shows the worst of them. Counts begin at 0 with every start.

| metric | type | labels | meaning |
|---|---|---|---|
"""


def settings_page() -> str:
    """docs/settings.md: the table; what stands below it is written by hand."""
    rows = (
        f"| `{PREFIX}{name.upper()}` | {_default(field.default)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    )
    return _SETTINGS_HEAD + "".join(rows) + _by_hand("settings.md")


def metrics_page() -> str:
    """docs/metrics.md: the tables; what stands below them is written by hand."""
    rows = (
        f"| `{metric.full_name}` | {metric.kind.__name__.lower()} "
        f"| {', '.join(f'`{label}`' for label in metric.labels) or '–'} | {metric.says} |\n"
        for metric in CATALOG
    )
    labels = (f"| `{name}` | {says} |\n" for name, says in LABELS.items())
    head = "\nA label has one of few values, all of our own or of your configuration:\n\n"
    table = "| label | values |\n|---|---|\n"
    return _METRICS_HEAD + "".join(rows) + head + table + "".join(labels) + _by_hand("metrics.md")


def _by_hand(page: str, first: str = "\n## ") -> str:
    text = (DOCS / page).read_text()
    return text[text.index(first) :]


_FIELDS_HEAD = """# The members of a record

Names are ours; OpenTelemetry and OCSF name the same thing as the last two columns say, where they
have a name for it (GenAI conventions: status development; OCSF 1.x). `docs/record-schema.json`
(`ringfence audit schema`) says the same to machines; `docs/record-format.md` has the bytes.
"""

_FIELDS_TABLE = "| member | meaning | OpenTelemetry | OCSF |\n|---|---|---|---|\n"


def fields_page() -> str:
    """docs/record-fields.md."""
    return _FIELDS_HEAD + "".join(
        f"\n## {'Any other kind' if kind == 'event' else f'`{kind}`'}\n\n{_fields(members)}"
        for kind, members in {"every record": FRAME, **KINDS}.items()
    ).replace("## `every record`", "## Every record")


def _fields(members: dict[str, Name]) -> str:
    return _FIELDS_TABLE + "".join(
        f"| `{path}` | {name.meaning} | {_code(name.otel)} | {_code(name.ocsf)} |\n"
        for path, name in members.items()
    )


def _code(name: str) -> str:
    return f"`{name}`" if name else "–"


def commands_page() -> str:
    """docs/commands.md."""
    return _COMMANDS_HEAD + "".join(
        _command(name, command) for name, command in commands(get_command(app), "ringfence")
    )


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command below one, with its full name."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for part, below in command.commands.items():
        yield from commands(below, f"{name} {part}")


def _command(name: str, command: Any) -> str:
    about = " ".join((command.help or "").split())
    lines = [f"\n## `{name}`\n\n{about}\n"]
    if command.params:
        lines.append("\n| argument | default | meaning |\n|---|---|---|\n")
    for param in command.params:
        shown = param.name.upper() if param.param_type_name == "argument" else param.opts[0]
        default = "–" if param.required or callable(param.default) else _default(param.default)
        lines.append(f"| `{shown}` | {default} | {param.help} |\n")
    return "".join(lines)


def _default(value: object) -> str:
    if value is None or value is PydanticUndefined:
        return "–"
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    text = str(value).replace(str(Path.home()), "~")
    return f"`{text}`" if text else "–"


_MATRIX_HEAD = """# The leak matrix

A planted value in every position of every route, whole and as a stream, while things go wrong:
does it get out? {total:,} cells, each with a fresh value of its own (an e-mail address, a card, an
account number, a key, a name, a telephone or a social security number; all made up), each beside a
harmless twin: the same request with an ordinary word. What arrives at a recording upstream is
searched for every value, in some forty forms; so is all that the proxy writes and answers: ledger,
log, metrics, pins, stored responses, temporary files, errors, headers.

`tests/drills/test_leak_matrix.py` holds it: **no cell leaks**, and the twins show that it is the
value that keeps a request home. It runs one of each kind in the suite, and all of them with
`RINGFENCE_DRILL_MATRIX=full`. The controls: a proxy that inspects nothing is seen leaking in every
cell, whether it passes bodies on as they came, written anew, wrapped or compressed.
"""

_MATRIX_TABLE = """
## What is tried where

The number of cells of a position on a route, all conditions and streams together. (stays): the
harmless twin stays home as well, since nothing of this form can be read, or goes out on this route.

"""


def matrix_page() -> str:
    """docs/leak-matrix.md: the tables; what stands below them is written by hand."""
    cells = all_cells()
    return (
        _MATRIX_HEAD.format(total=len(cells))
        + _conditions(cells)
        + _MATRIX_TABLE
        + _places(cells)
        + _by_hand("leak-matrix.md", "\n## Any other proxy")
    )


def _conditions(cells: Sequence[Cell]) -> str:
    counts = Counter(cell.condition for cell in cells)
    rows = (
        f"| {condition.value} | {counts[condition]} | "
        f"{'no' if condition in FROM_INSIDE else 'yes'} |\n"
        for condition in Condition
    )
    head = "\n| meanwhile | cells | `ringfence selfcheck` can try it |\n|---|---|---|\n"
    return head + "".join(rows)


def _places(cells: Sequence[Cell]) -> str:
    squares: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells:
        squares.setdefault(cell.position.name, {}).setdefault(cell.route.name, []).append(cell)
    head = f"| position | {' | '.join(ROUTES)} |\n|---|{'---|' * len(ROUTES)}\n"
    return head + "".join(
        f"| {position} | {' | '.join(_square(places.get(name, [])) for name in ROUTES)} |\n"
        for position, places in squares.items()
    )


def _square(cells: Sequence[Cell]) -> str:
    plain = [cell for cell in cells if cell.condition not in FROM_INSIDE]
    stays = bool(plain) and all(stays_anyway(cell) for cell in plain)
    return (f"{len(cells)} (stays)" if stays else str(len(cells))) if cells else ""


PAGES = {
    "leak-matrix.md": matrix_page,
    "settings.md": settings_page,
    "commands.md": commands_page,
    "metrics.md": metrics_page,
    "record-fields.md": fields_page,
    "record-schema.json": schema_text,
    "openapi.json": openapi_text,
}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCS / page).write_text(make())
