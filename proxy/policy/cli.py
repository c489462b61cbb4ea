"""The `ringfence policy` commands."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from proxy.errors import PolicyError
from proxy.inspection.inline import inline_inspector
from proxy.policy.cases import CaseResult, Inspect, context_of, run_cases
from proxy.policy.diff import compare
from proxy.policy.explain import Explanation, explain
from proxy.policy.language import CallerCase, PolicyFile
from proxy.policy.lint import examine
from proxy.policy.model import Policy
from proxy.policy.problems import Problem, Severity
from proxy.policy.replay import Change, read_decisions, replay
from proxy.policy.report import junit, problems_as
from proxy.policy.source import FilePolicySource

app = typer.Typer(no_args_is_help=True, help="Check, test, explain and compare policies.")

Files = Annotated[list[Path], typer.Argument(help="Policy files, or folders of them.")]
One = Annotated[Path, typer.Argument(help="The policy file in force.")]


class Form(StrEnum):
    """How `lint` says what it found."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


@app.command("lint")
def lint_command(
    files: Files,
    form: Annotated[Form, typer.Option("--format", help="text, json or github.")] = Form.TEXT,
    notes: Annotated[bool, typer.Option(help="Show notes as well as errors.")] = False,
) -> None:
    """Say what is wrong with policies, with file, line and column. Exit 0: nothing; 1: an error."""
    problems = _problems(files)
    shown = [p for p in problems if notes or p.severity is not Severity.NOTE]
    if shown or form is Form.JSON:
        typer.echo(problems_as(form.value, shown))
    raise typer.Exit(1 if _bad(problems) else 0)


@app.command("test")
def run_command(
    files: Files,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", help="Write the results here as JUnit XML.")
    ] = None,
) -> None:
    """Lint, then run the tests inside policies. Exit 0: all passed and there were some; else 1."""
    console = Console(highlight=False)
    bad = _bad(_problems(files))
    for problem in bad:
        console.print(str(problem), markup=False)
    if bad:
        raise typer.Exit(1)
    inspect = inline_inspector(("en",))
    results: list[tuple[str, CaseResult]] = []
    for path in _expand(files):
        for result in run_cases(_load(path), inspect):
            results.append((path.name, result))
            mark = "[red]FAIL[/]" if result.problem else "[green]PASS[/]"
            console.print(f"{mark} {path.name}: ", end="")
            console.print(f"{result.name} {result.problem}", markup=False)
    if junit_file is not None:
        junit_file.write_text(junit(results))
    num_failed = sum(bool(result.problem) for _, result in results)
    console.print(f"{len(results) - num_failed} passed, {num_failed} failed")
    raise typer.Exit(0 if results and not num_failed else 1)


@app.command("explain")
def explain_command(
    file: One,
    text: Annotated[str | None, typer.Option(help="The text; standard input if not given.")] = None,
    app_: Annotated[str, typer.Option("--app", help="Who asks: the app.")] = "test",
    team: Annotated[str, typer.Option(help="Who asks: the team.")] = "test",
    environment: Annotated[str, typer.Option(help="Who asks: the environment.")] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Say which rule decides about a text, and what every other rule says. No text is printed."""
    policy = _load(file)
    body = {"messages": [{"role": "user", "content": sys.stdin.read() if text is None else text}]}
    inspect: Inspect = inline_inspector(("en",))
    caller = CallerCase(app=app_, team=team, environment=environment)
    found = explain(policy, context_of(caller, None), inspect(body))
    typer.echo(_as_json(found) if as_json else _as_tree(found))


@app.command("diff")
def diff_command(
    old: Annotated[Path, typer.Argument(help="The policy in force.")],
    new: Annotated[Path, typer.Argument(help="The policy to take its place.")],
    over: Annotated[
        Path | None, typer.Option(help="A ledger: decide its requests anew, by counts and scores.")
    ] = None,
) -> None:
    """Prove that NEW lets nothing more leave than OLD, or show what. Exit 0: proved; 1: not."""
    before, after, now = _load(old), _load(new), datetime.now(UTC)
    found = compare(before, after, now)
    for looser in found.looser:
        typer.echo(f"looser: {looser}")
    for text in found.constructs:
        typer.echo(f"looser: {text}")
    for text in found.unproved:
        typer.echo(f"not proved: {text}")
    if found.no_new_egress:
        typer.echo(f"no new egress: {found.num_tried} smallest requests tried")
    for change in replay(read_decisions(over), after, now) if over else ():
        typer.echo(_changed(change))
    raise typer.Exit(0 if found.no_new_egress else 1)


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of a policy file, for editors."""
    typer.echo(schema(), nl=False)


def schema() -> str:
    """The JSON Schema of a policy file."""
    return json.dumps(PolicyFile.model_json_schema(), indent=2) + "\n"


def _load(path: Path) -> Policy:
    try:
        return FilePolicySource(path).load()
    except PolicyError as error:
        typer.echo(error.public_message, err=True)
        raise typer.Exit(1) from None


def _problems(files: list[Path]) -> list[Problem]:
    today = datetime.now(UTC).date()
    return sorted({problem for path in _expand(files) for problem in examine(path, today)})


def _bad(problems: list[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity is not Severity.NOTE]


def _expand(files: list[Path]) -> list[Path]:
    return [
        path
        for file in files
        for path in (sorted(file.glob("*.yaml")) if file.is_dir() else [file])
    ]


def _as_json(found: Explanation) -> str:
    decision = found.decision
    return json.dumps(
        {
            "action": decision.action.value,
            "rules": [rule.id for rule in decision.rules],
            "destinations": [d.id for d in decision.destinations] if decision.may_leave else [],
            "policy": decision.policy_digest,
            "said": [asdict(said) for said in found.said],
        },
        indent=2,
    )


def _as_tree(found: Explanation) -> str:
    decision = found.decision
    by = ", ".join(rule.id for rule in decision.rules) or "the default"
    lines = [f"{decision.action.value} by {by}"]
    for said in found.said:
        mark = "+" if said.matched else "-"
        place = f"{said.rule.file}:{said.rule.line}"
        lines.append(f"  {mark} {said.rule.id} ({place}) {said.action}: {said.why}")
    return "\n".join(lines)


def _changed(change: Change) -> str:
    if change.new is None:
        return f"{change.num:>8} {change.app}: {change.old}, now: cannot say without the text"
    mark = "same" if change.old == change.new else "changed"
    return f"{change.num:>8} {change.app}: {change.old}, now {change.new} ({mark})"
