"""The guide's examples are policies that lint and pass their own tests."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from proxy.inspection.inline import inline_inspector
from proxy.policy import lint, problems
from proxy.policy.cases import run_cases
from proxy.policy.language import PolicyFile
from proxy.policy.lint import examine
from proxy.policy.problems import Severity
from proxy.policy.source import FilePolicySource

GUIDE = Path("docs/policies.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_lints_and_passes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(text)
    found = examine(path, date(2026, 11, 24))
    assert [str(p) for p in found if p.severity is not Severity.NOTE] == []
    results = run_cases(FilePolicySource(path).load(), inline_inspector(("en",)))
    assert results
    assert [result for result in results if result.problem] == []


def test_the_guide_names_every_key_and_code() -> None:
    missing = {key for key in PolicyFile.model_fields if key not in GUIDE}
    assert missing == set()
    sources = Path(lint.__file__).read_text() + Path(problems.__file__).read_text()
    assert {code for code in re.findall(r"RF\d{3}", sources) if code not in GUIDE} == set()
