"""The pages of docs/ that are made from the code: `make docs` writes them, a test compares them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined
from typer.main import get_command

from proxy.cli import app
from proxy.settings import PREFIX, Settings

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


def settings_page() -> str:
    """docs/settings.md: the table; what stands below it is written by hand."""
    page = (DOCS / "settings.md").read_text()
    by_hand = page[page.index("\n## ") :]
    rows = (
        f"| `{PREFIX}{name.upper()}` | {_default(field.default)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    )
    return _SETTINGS_HEAD + "".join(rows) + by_hand


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


PAGES = {"settings.md": settings_page, "commands.md": commands_page}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCS / page).write_text(make())
