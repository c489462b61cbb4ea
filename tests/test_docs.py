"""What the docs say is true: pages made from the code are current, snippets of the README run."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
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


def test_every_test_the_docs_name_is_there() -> None:
    named = {
        (path, name)
        for page in DOCS.rglob("*.md")
        for path, name in re.findall(r"`(tests/[\w/.]+\.py)::(\w+)`", page.read_text())
    }
    assert named
    missing = [
        (path, name)
        for path, name in sorted(named)
        if not re.search(rf"^(?:async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_each_leak_of_others_has_its_test() -> None:
    page = (DOCS / "leak-matrix.md").read_text()
    rows = re.findall(r"^\| (\d+) \| .* \| .* \| (.*) \|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 31))
    assert all("::" in tests or tests.startswith("M") for _, tests in rows)


def test_every_dependency_has_one_pinned_version() -> None:
    pins = (ROOT / "constraints.txt").read_text().split()
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.+!-]+", pin)] == []
    names = [re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() for pin in pins]
    assert len(set(names)) == len(names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    asked = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=~! ]", one)[0]).lower() for one in wanted}
    assert asked - set(names) == set()


@pytest.mark.slow
@pytest.mark.timeout(400)  # starts a proxy and asks a real model, twice
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
