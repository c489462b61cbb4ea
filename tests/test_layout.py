"""The house stays in order: modules have tests, rooms stay small, arrows hold, the tree is true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT

README = (ROOT / "README.md").read_text()

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 6

MODULES = sorted(
    path.relative_to(ROOT) for top in ("proxy", "audit") for path in (ROOT / top).rglob("*.py")
)

#: Modules whose tests stand elsewhere, since they show only together with what they serve.
TESTED_IN = {
    "audit/chain.py": "tests/audit/test_tampering.py",
    "audit/checkpoint.py": "tests/audit/test_sealer.py",
    "audit/disk.py": "tests/audit/test_ledger.py",
    "audit/epochs.py": "tests/audit/test_ledger.py",
    "audit/errors.py": "tests/audit/test_ledger.py",
    "audit/keys.py": "tests/audit/test_ledger.py",
    "audit/note.py": "tests/audit/test_sealer.py",
    "audit/permit.py": "tests/audit/test_ledger.py",
    "audit/record.py": "tests/audit/test_ledger.py",
    "audit/recovery.py": "tests/audit/test_sealer.py",
    "audit/replay.py": "tests/audit/test_sealer.py",
    "audit/seal_thread.py": "tests/audit/test_sealer.py",
    "audit/sinks/file.py": "tests/audit/test_ledger.py",
    "audit/sinks/sink.py": "tests/audit/test_ledger.py",
    "audit/verify.py": "tests/audit/test_tampering.py",
    "audit/verify_chains.py": "tests/audit/test_tampering.py",
    "audit/verify_heads.py": "tests/audit/test_tampering.py",
    "audit/writer.py": "tests/audit/test_ledger.py",
    "proxy/assembly.py": "tests/proxy/api/test_whole_proxy.py",
    "proxy/errors.py": "tests/proxy/api/test_reply.py",
    "proxy/inspect_command.py": "tests/proxy/test_cli.py",
    "proxy/inspection/checksums.py": "tests/proxy/inspection/test_identifiers.py",
    "proxy/inspection/addresses.py": "tests/proxy/inspection/test_identifiers.py",
    "proxy/inspection/detector.py": "tests/proxy/inspection/test_run.py",
    "proxy/inspection/entities.py": "tests/proxy/policy/test_decide.py",
    "proxy/inspection/inline.py": "tests/proxy/inspection/test_evasions.py",
    "proxy/inspection/labels.py": "tests/proxy/inspection/test_identifiers.py",
    "proxy/inspection/names.py": "tests/proxy/inspection/test_evasions.py",
    "proxy/inspection/offline.py": "tests/promises/test_no_other_connection.py",
    "proxy/inspection/paths.py": "tests/proxy/inspection/test_joined.py",
    "proxy/inspection/phones.py": "tests/proxy/inspection/test_evasions.py",
    "proxy/inspection/plan.py": "tests/proxy/inspection/test_run.py",
    "proxy/inspection/preload.py": "tests/proxy/inspection/test_run.py",
    "proxy/inspection/registry.py": "tests/proxy/inspection/test_evasions.py",
    "proxy/inspection/shipped.py": "tests/proxy/inspection/test_identifiers.py",
    "proxy/inspection/structural.py": "tests/proxy/inspection/test_surface.py",
    "proxy/inspection/worker.py": "tests/proxy/inspection/test_run.py",
    "proxy/inspection/views/decode.py": "tests/proxy/inspection/views/test_views.py",
    "proxy/inspection/views/fold.py": "tests/proxy/inspection/views/test_views.py",
    "proxy/inspection/views/layout.py": "tests/proxy/inspection/views/test_views.py",
    "proxy/inspection/views/view.py": "tests/proxy/inspection/views/test_views.py",
    "proxy/local/backend.py": "tests/proxy/test_pipeline.py",
    "proxy/local/batch.py": "tests/proxy/local/test_engine.py",
    "proxy/local/replies.py": "tests/proxy/local/test_server.py",
    "proxy/policy/model.py": "tests/proxy/policy/test_decide.py",
    "proxy/policy/problems.py": "tests/proxy/policy/test_lint.py",
    "proxy/policy/report.py": "tests/proxy/policy/test_cli.py",
    "proxy/routing/estimator.py": "tests/proxy/routing/test_logprob.py",
}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_has_tests(module: Path) -> None:
    if module.name in ("__init__.py", "__main__.py"):
        return
    mirrored = Path("tests") / module.parent / f"test_{module.name}"
    named = TESTED_IN.get(str(module))
    assert named is None or not (ROOT / mirrored).exists(), "named, and has a file of its own"
    assert (ROOT / (named or mirrored)).is_file(), f"add {mirrored}"


def test_every_named_module_is_there() -> None:
    assert [name for name in TESTED_IN if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_and_its_functions_are_small(module: Path) -> None:
    text = (ROOT / module).read_text()
    assert text.count("\n") <= MAX_MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, node.name
            is_command = any("command" in ast.unparse(d) for d in node.decorator_list)
            names = [arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)]
            parameters = [name for name in names if name not in ("self", "cls")]
            assert is_command or len(parameters) <= MAX_PARAMETERS, node.name


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_what_is_public_has_a_docstring(module: Path) -> None:
    tree = ast.parse((ROOT / module).read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.name.startswith("_") or ast.get_docstring(node), node.name


def test_the_import_arrows_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout


def test_the_tree_of_the_readme_is_the_tree_on_disk() -> None:
    (tree,) = re.findall(r"## Where things are\n\n```\n(.*?)```", README, re.DOTALL)
    told: dict[str, set[str]] = {}
    top = ""
    for line in tree.splitlines():
        entry = re.split(r"  +", line.strip())[0]
        if not line.startswith(" "):
            top = entry.rstrip("/")
            told[top] = set()
        else:
            told[top] |= {name.rstrip("/") for name in entry.split(", ")}
    if not (ROOT / ".git").exists():
        pytest.skip("not a Git checkout: what belongs to the project cannot be told")
    tracked = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout.split()
    paths = [Path(name) for name in tracked]
    folders = {path.parts[0] for path in paths if len(path.parts) > 1} - {".ci"}
    assert set(told) == folders
    inside = {path.parts[1] for path in paths if path.parts[0] == "proxy"} - {"__init__.py"}
    assert told["proxy"] == inside
