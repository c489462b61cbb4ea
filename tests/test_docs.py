"""What the docs say is true: pages made from the code are current, snippets of the README run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import ROOT, ringfence, running_proxy
from tests.reference_pages import DOCS, PAGES

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language in the README."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_made_from_the_code_is_current(page: str) -> None:
    make: Callable[[], str] = PAGES[page]
    assert (DOCS / page).read_text() == make(), "run `make docs`"


def test_every_page_is_linked_or_named_in_the_readme_or_the_architecture() -> None:
    told = README + (DOCS / "architecture.md").read_text()
    assert [page.name for page in DOCS.glob("*.md") if page.stem not in told.lower()] == []


def test_every_file_the_docs_name_is_there() -> None:
    named = {
        name
        for page in (ROOT / "README.md", *DOCS.rglob("*.md"))
        for name in re.findall(
            r"`((?:docs|policies|tests|proxy|audit|bench|demo)/[\w./-]+)`", page.read_text()
        )
    }
    assert named
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.slow
def test_the_python_snippet_answers(local_url: str, tmp_path: Path) -> None:
    (snippet,) = blocks("python")
    with running_proxy(tmp_path, None, {"RINGFENCE_LOCAL_BASE_URL": local_url}) as proxy:
        script = snippet.replace("http://127.0.0.1:8080", proxy.url)
        assert script != snippet
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=100
        )
        asked = ringfence(
            *("ask", "Who wrote Faust?", "--max-tokens", "8", "--url", proxy.url),
            RINGFENCE_DATA_DIR=str(proxy.data_dir),
        )
        verified = ringfence("audit", "verify", str(proxy.data_dir / "ledger"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert asked.returncode == 0, asked.stderr
    assert "route local" in asked.stdout
    assert verified.returncode == 0, verified.stdout
    assert "SOUND" in verified.stdout


def test_the_policy_of_the_readme_lints_and_passes_its_test(tmp_path: Path) -> None:
    (policy,) = blocks("yaml")
    (tmp_path / "policy.yaml").write_text(policy)
    done = ringfence("policy", "test", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed, 0 failed" in done.stdout
