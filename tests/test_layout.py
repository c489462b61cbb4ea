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
    "audit/arguments.py": "tests/audit/test_acts.py",
    "audit/acts_cli.py": "tests/audit/test_acts.py",
    "audit/capture_keys.py": "tests/audit/test_vault.py",
    "audit/gaps.py": "tests/audit/test_prune.py",
    "audit/holds.py": "tests/audit/test_prune.py",
    "audit/places.py": "tests/audit/test_prune.py",
    "audit/retention.py": "tests/audit/test_prune.py",
    "audit/retention_cli.py": "tests/audit/test_prune.py",
    "audit/verify_retention.py": "tests/audit/test_prune.py",
    "audit/segments.py": "tests/audit/test_packing.py",
    "audit/captures.py": "tests/audit/test_vault.py",
    "audit/vault_cli.py": "tests/audit/test_vault.py",
    "audit/verify_vault.py": "tests/audit/test_vault.py",
    "audit/chain.py": "tests/audit/test_tampering.py",
    "audit/checkpoint.py": "tests/audit/test_sealer.py",
    "audit/disk.py": "tests/audit/test_ledger.py",
    "audit/epochs.py": "tests/audit/test_ledger.py",
    "audit/errors.py": "tests/audit/test_ledger.py",
    "audit/field_names.py": "tests/audit/test_schema.py",
    "audit/keys.py": "tests/audit/test_ledger.py",
    "audit/note.py": "tests/audit/test_sealer.py",
    "audit/permit.py": "tests/audit/test_ledger.py",
    "audit/record.py": "tests/audit/test_ledger.py",
    "audit/evidence.py": "tests/audit/test_statement.py",
    "audit/showing_cli.py": "tests/audit/test_statement.py",
    "audit/charts.py": "tests/audit/test_month.py",
    "audit/month_html.py": "tests/audit/test_month.py",
    "audit/month_pdf.py": "tests/audit/test_month.py",
    "audit/recovery.py": "tests/audit/test_sealer.py",
    "audit/replay.py": "tests/audit/test_sealer.py",
    "audit/seal_thread.py": "tests/audit/test_sealer.py",
    "audit/sinks/file.py": "tests/audit/test_ledger.py",
    "audit/sinks/sink.py": "tests/audit/test_ledger.py",
    "audit/sinks/postgres.py": "tests/audit/stores/test_postgres.py",
    "audit/siem/cli.py": "tests/audit/siem/test_forward.py",
    "audit/siem/forms.py": "tests/audit/siem/test_forward.py",
    "audit/siem/source.py": "tests/audit/siem/test_forward.py",
    "audit/siem/wires.py": "tests/audit/siem/test_forward.py",
    "audit/stores/postgres_source.py": "tests/audit/siem/test_forward.py",
    "audit/stores/address.py": "tests/audit/stores/test_postgres.py",
    "audit/stores/postgres_copy.py": "tests/audit/stores/test_postgres.py",
    "audit/stores/postgres_keys.py": "tests/audit/stores/test_postgres.py",
    "audit/stores/postgres_link.py": "tests/audit/stores/test_postgres.py",
    "audit/stores/files.py": "tests/audit/test_ledger.py",
    "audit/stores/store.py": "tests/audit/test_ledger.py",
    "audit/verify.py": "tests/audit/test_tampering.py",
    "audit/verify_chains.py": "tests/audit/test_tampering.py",
    "audit/verify_heads.py": "tests/audit/test_tampering.py",
    "audit/writer.py": "tests/audit/test_ledger.py",
    "proxy/assembly.py": "tests/proxy/api/test_whole_proxy.py",
    "proxy/egress/grammar.py": "tests/proxy/egress/test_restore.py",
    "proxy/egress/usage.py": "tests/proxy/egress/test_cloud.py",
    "proxy/egress/places.py": "tests/proxy/egress/test_mask.py",
    "proxy/egress/values.py": "tests/proxy/egress/test_mask.py",
    "proxy/flowing.py": "tests/proxy/egress/test_live.py",
    "proxy/errors.py": "tests/proxy/api/test_reply.py",
    "proxy/pins/growing.py": "tests/proxy/test_home_stream.py",
    "proxy/telling.py": "tests/proxy/test_pipeline.py",
    "proxy/flow.py": "tests/proxy/test_pipeline.py",
    "proxy/routes/progress.py": "tests/proxy/egress/test_live.py",
    "proxy/commands/inspect.py": "tests/proxy/test_cli.py",
    "proxy/inspection/detector.py": "tests/proxy/inspection/test_run.py",
    "proxy/inspection/entities.py": "tests/proxy/policy/test_decide.py",
    "proxy/inspection/files/extract.py": "tests/proxy/inspection/files/test_read.py",
    "proxy/inspection/files/markup.py": "tests/proxy/inspection/files/test_office.py",
    "proxy/inspection/files/package.py": "tests/proxy/inspection/files/test_office.py",
    "proxy/inspection/files/pdf_fonts.py": "tests/proxy/inspection/files/test_pdf.py",
    "proxy/inspection/files/pdf_members.py": "tests/proxy/inspection/files/test_pdf.py",
    "proxy/inspection/files/pdf_objects.py": "tests/proxy/inspection/files/test_pdf.py",
    "proxy/inspection/files/plain.py": "tests/proxy/inspection/files/test_read.py",
    "proxy/inspection/files/sheets.py": "tests/proxy/inspection/files/test_office.py",
    "proxy/inspection/inline.py": "tests/proxy/inspection/test_evasions.py",
    "proxy/inspection/offline.py": "tests/promises/test_no_other_connection.py",
    "proxy/inspection/paths.py": "tests/proxy/inspection/test_joined.py",
    "proxy/inspection/plan.py": "tests/proxy/inspection/test_run.py",
    "proxy/routing/artifact.py": "tests/proxy/routing/test_calibration.py",
    "proxy/routing/grades.py": "tests/proxy/routing/test_cli.py",
    "proxy/inspection/loading.py": "tests/proxy/inspection/test_run.py",
    "proxy/inspection/preload.py": "tests/proxy/inspection/test_run.py",
    "proxy/inspection/questionforms.py": "tests/proxy/inspection/test_publicquestions.py",
    "proxy/inspection/recognizers.py": "tests/proxy/inspection/test_custom.py",
    "proxy/inspection/registry.py": "tests/proxy/inspection/test_evasions.py",
    "proxy/inspection/shipped.py": "tests/proxy/inspection/test_identifiers.py",
    "proxy/inspection/worker.py": "tests/proxy/inspection/test_run.py",
    "proxy/inspection/views/decode.py": "tests/proxy/inspection/views/test_views.py",
    "proxy/inspection/views/fold.py": "tests/proxy/inspection/views/test_views.py",
    "proxy/inspection/views/layout.py": "tests/proxy/inspection/views/test_views.py",
    "proxy/inspection/views/view.py": "tests/proxy/inspection/views/test_views.py",
    "proxy/learning/cli.py": "tests/proxy/learning/test_table1.py",
    "proxy/learning/recipe.py": "tests/proxy/learning/test_finetune.py",
    "proxy/learning/tuning.py": "tests/proxy/learning/test_finetune.py",
    "proxy/local/backend.py": "tests/proxy/test_pipeline.py",
    "proxy/local/batch.py": "tests/proxy/local/test_engine.py",
    "proxy/local/embed_route.py": "tests/proxy/local/test_server.py",
    "proxy/local/encoder.py": "tests/proxy/local/test_server.py",
    "proxy/local/replies.py": "tests/proxy/local/test_server.py",
    "proxy/policy/disguises.py": "tests/proxy/inspection/test_evasions.py",
    "proxy/policy/faults.py": "tests/proxy/policy/test_lint.py",
    "proxy/policy/model.py": "tests/proxy/policy/test_decide.py",
    "proxy/policy/problems.py": "tests/proxy/policy/test_lint.py",
    "proxy/policy/refusal.py": "tests/proxy/policy/test_approval.py",
    "proxy/policy/strict.py": "tests/proxy/policy/test_source.py",
    "proxy/policy/report.py": "tests/proxy/policy/test_cli.py",
    "proxy/api/stream.py": "tests/proxy/api/test_answer.py",
    "proxy/routes/fields.py": "tests/proxy/routes/test_chat.py",
    "proxy/routes/moderations.py": "tests/proxy/routes/test_embeddings.py",
    "proxy/routes/registry.py": "tests/proxy/api/test_app.py",
    "proxy/api/batch.py": "tests/proxy/api/test_batch_runner.py",
    "proxy/api/batch_lines.py": "tests/clients/test_openai_batches.py",
    "proxy/api/batch_routes.py": "tests/clients/test_openai_batches.py",
    "proxy/api/batch_run.py": "tests/proxy/api/test_batch_runner.py",
    "proxy/api/files.py": "tests/clients/test_openai_batches.py",
    "proxy/api/paging.py": "tests/clients/test_openai_responses.py",
    "proxy/api/stored.py": "tests/clients/test_openai_responses.py",
    "proxy/routes/responses_events.py": "tests/proxy/routes/test_responses.py",
    "proxy/routes/responses_home.py": "tests/proxy/routes/test_responses.py",
    "proxy/routes/route.py": "tests/proxy/api/test_wire.py",
    "proxy/routes/sse.py": "tests/proxy/routes/test_chat_events.py",
    "proxy/routing/features.py": "tests/proxy/routing/test_learned.py",
    "proxy/routing/training.py": "tests/proxy/routing/test_learned.py",
    "proxy/routing/report.py": "tests/proxy/routing/test_evaluation.py",
    "proxy/routing/rows.py": "tests/proxy/routing/test_goals.py",
    "proxy/selfcheck/command.py": "tests/drills/test_leak_matrix.py",
    "proxy/selfcheck/matrix.py": "tests/drills/test_leak_matrix.py",
    "proxy/selfcheck/positions.py": "tests/proxy/selfcheck/test_cells.py",
    "proxy/selfcheck/puts.py": "tests/proxy/selfcheck/test_cells.py",
    "proxy/selfcheck/report.py": "tests/drills/test_leak_matrix.py",
    "proxy/selfcheck/wire.py": "tests/drills/test_leak_matrix.py",
    "proxy/policy/tree.py": "tests/proxy/policy/test_cli.py",
    "proxy/tables.py": "tests/proxy/test_prices.py",
    "proxy/egress/spending.py": "tests/proxy/egress/test_attempt.py",
    "proxy/routing/estimator.py": "tests/proxy/routing/test_catalog.py",
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
