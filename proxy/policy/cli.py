"""The `ringfence policy` commands."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from proxy.canonical import parse_object
from proxy.errors import PolicyError, RequestError
from proxy.inspection.inline import inline_inspector
from proxy.policy.cases import CaseCoverage, CaseResult, context_of, coverage_of, run_cases
from proxy.policy.diff import compare
from proxy.policy.explain import Explanation, explain
from proxy.policy.format import formatted
from proxy.policy.language import CallerCase, PolicyFile
from proxy.policy.lint import examine
from proxy.policy.model import Policy
from proxy.policy.problems import Problem, Severity
from proxy.policy.replay import Change, read_decisions, recorded, replay
from proxy.policy.report import junit, problems_as
from proxy.policy.signing_commands import app as signing_app
from proxy.policy.source import FilePolicySource
from proxy.policy.staging_commands import app as staging_app
from proxy.policy.tree import as_json, as_tree, words_of
from proxy.types import JSONObject

app = typer.Typer(no_args_is_help=True, help="Check, test, explain and compare policies.")
app.add_typer(signing_app)
app.add_typer(staging_app)

Files = Annotated[list[Path], typer.Argument(help="Policy files, or folders of them.")]
One = Annotated[Path, typer.Argument(help="The policy file in force.")]

#: Width of a tree that goes into a file: wide enough that no line is broken.
_PIPE_CHARS = 1000


class Form(StrEnum):
    """How `lint` says what it found."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"
    SARIF = "sarif"


@app.command("lint")
def lint_command(
    files: Files,
    form: Annotated[
        Form, typer.Option("--format", help="text, json, github or sarif.")
    ] = Form.TEXT,
    notes: Annotated[bool, typer.Option(help="Show notes as well as errors.")] = False,
) -> None:
    """Say what is wrong with policies, with file, line and column. Exit 0: nothing; 1: an error."""
    problems = _problems(files)
    shown = [p for p in problems if notes or p.severity is not Severity.NOTE]
    if shown or form in (Form.JSON, Form.SARIF):
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
    console = Console(highlight=False, soft_wrap=True)
    bad = _bad(_problems(files))
    for problem in bad:
        console.print(str(problem), markup=False)
    if bad:
        raise typer.Exit(1)
    inspect = inline_inspector(("en",))
    results: list[tuple[str, CaseResult]] = []
    for path in _expand(files):
        policy = _load(path)
        of_file = run_cases(policy, inspect)
        for result in of_file:
            results.append((path.name, result))
            _say_result(console, path.name, result)
        _say_coverage(console, path.name, coverage_of(policy, of_file))
    if junit_file is not None:
        junit_file.write_text(junit(results))
    num_failed = sum(bool(result.problem) for _, result in results)
    console.print(f"{len(results) - num_failed} passed, {num_failed} failed")
    raise typer.Exit(0 if results and not num_failed else 1)


def _say_result(console: Console, file: str, result: CaseResult) -> None:
    tried = f" ({result.num_variants} forms and places)" if result.num_variants else ""
    console.print("[red]FAIL[/]" if result.problem else "[green]PASS[/]", end=" ")
    problem = f": {result.problem}" if result.problem else ""
    console.print(f"{file}: {result.name}{tried}{problem}", markup=False)


def _say_coverage(console: Console, file: str, shown: CaseCoverage) -> None:
    """Which rules the tests of a file show, and what was decided in them."""
    num = len(shown.rules)
    fire, silent = num - len(shown.never_fires), num - len(shown.never_silent)
    actions = ", ".join(f"{action.value} {times}" for action, times in shown.actions)
    console.print(
        f"     {file}: of {num} rules {fire} match in a test, {silent} do not in one; {actions}",
        markup=False,
    )
    for rule in shown.never_fires:
        console.print(f"     {file}: no test in which {rule} matches", markup=False)
    for rule in shown.never_silent:
        console.print(f"     {file}: no test in which {rule} does not match", markup=False)


@app.command("explain")
def explain_command(
    file: One,
    text: Annotated[str | None, typer.Option(help="The text; standard input if not given.")] = None,
    request: Annotated[
        Path | None,
        typer.Option(help="A file with the JSON body of a request, in place of a text."),
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(help="The id of a recorded decision, in place of a text."),
    ] = None,
    ledger: Annotated[Path | None, typer.Option(help="The ledger that holds the record.")] = None,
    app_: Annotated[str, typer.Option("--app", help="Who asks: the app.")] = "test",
    team: Annotated[str, typer.Option(help="Who asks: the team.")] = "test",
    environment: Annotated[str, typer.Option(help="Who asks: the environment.")] = "test",
    show: Annotated[
        bool, typer.Option("--show", help="Show the words that were found; on a terminal only.")
    ] = False,
    as_json_: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Say which rule decides about a request, and what every other rule says, as a tree.

    What was found is not printed unless you ask for it on a terminal.
    """
    if sum(given is not None for given in (text, request, record)) > 1:
        _wrong_usage("give one of --text, --request and --record")
    if (record is None) != (ledger is None):
        _wrong_usage("--record and --ledger go together")
    if show and (record is not None or as_json_ or not sys.stdout.isatty()):
        _wrong_usage("--show goes with a text or a request, on a terminal, without --json")
    policy = _load(file)
    if record is not None and ledger is not None:
        found, inspection = _explain_record(policy, ledger, record), None
    else:
        body = _body_of(text, request)
        inspection = inline_inspector(("en",))(body, policy.recognizers)
        model = body.get("model")
        caller = CallerCase(
            app=app_,
            team=team,
            environment=environment,
            model=model if isinstance(model, str) and 0 < len(model) <= 128 else "ringfence",
        )
        found = explain(policy, context_of(caller, None), inspection)
    if as_json_:
        typer.echo(as_json(found))
        return
    words = partial(words_of, inspection) if show and inspection is not None else None
    width = None if sys.stdout.isatty() else _PIPE_CHARS
    Console(highlight=False, width=width).print(as_tree(found, words))


def _explain_record(policy: Policy, ledger: Path, id_: str) -> Explanation:
    try:
        past = recorded(ledger, id_, datetime.now(UTC))
    except (LookupError, OSError):
        typer.echo(f"no decision {id_} in {ledger}", err=True)
        raise typer.Exit(1) from None
    notes = past.notes
    if past.digest != policy.digest:
        notes += ("it was decided under another policy; this is what the given one says",)
    return explain(
        policy, past.context, past.inspection, derived_from=past.derived_from, notes=notes
    )


def _body_of(text: str | None, request: Path | None) -> JSONObject:
    """The body of a request to explain."""
    if request is None:
        content = sys.stdin.read() if text is None else text
        return {"messages": [{"role": "user", "content": content}]}
    try:
        return parse_object(request.read_bytes())
    except RequestError as error:
        typer.echo(f"{request}: {error.public_message}", err=True)
    except OSError as error:
        typer.echo(f"{request}: {error.strerror}", err=True)
    raise typer.Exit(1)


def _wrong_usage(problem: str) -> NoReturn:
    typer.echo(problem, err=True)
    raise typer.Exit(2)


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


@app.command("fmt")
def fmt_command(
    files: Files,
    check: Annotated[
        bool,
        typer.Option("--check", help="Change nothing; exit 1 if a file is laid out otherwise."),
    ] = False,
) -> None:
    """Lay policy files out in one way: two spaces a level. Comments, quotes and order stay."""
    code = 0
    for path in _expand(files):
        problem, made, raw = "", b"", b""
        try:
            raw = path.read_bytes()
            made = formatted(path, raw)
        except OSError as error:
            problem = f"{path}: {error.strerror}"
        except PolicyError as error:
            problem = error.public_message
        if problem:
            typer.echo(problem, err=True)
            code = 1
        elif made != raw:
            typer.echo(f"{'would lay out' if check else 'laid out'} {path}")
            code = max(code, int(check))
            if not check:
                _replace(path, made)
    raise typer.Exit(code)


def _replace(path: Path, raw: bytes) -> None:
    """Put ``raw`` in the place of a file at once, so that no reload sees half of it."""
    path = path.resolve()
    whole = path.with_name(f".{path.name}.new")
    whole.write_bytes(raw)
    whole.chmod(path.stat().st_mode & 0o777)
    whole.replace(path)


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


def _changed(change: Change) -> str:
    if change.new is None:
        return f"{change.num:>8} {change.app}: {change.old}, now: cannot say without the text"
    mark = "same" if change.old == change.new else "changed"
    return f"{change.num:>8} {change.app}: {change.old}, now {change.new} ({mark})"
