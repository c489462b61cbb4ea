"""Forms in which problems and results are handed on: text, JSON, GitHub annotations,
SARIF, JUnit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

from proxy import __version__
from proxy.policy.cases import CaseResult
from proxy.policy.problems import Problem, Severity


def problems_as(form: str, problems: Iterable[Problem]) -> str:
    """``problems`` as ``text``, ``json``, ``github`` or ``sarif``."""
    if form == "json":
        return json.dumps([asdict(problem) for problem in problems], indent=2)
    if form == "sarif":
        return json.dumps(_sarif(list(problems)), indent=2)
    if form == "github":
        return "\n".join(_annotation(problem) for problem in problems)
    return "\n".join(str(problem) for problem in problems)


def _sarif(problems: list[Problem]) -> dict[str, Any]:
    """Source: OASIS SARIF 2.1.0, sections 3.13 (log), 3.27 (result)."""
    driver = {
        "name": "ringfence policy lint",
        "version": __version__,
        "rules": [{"id": code} for code in sorted({problem.code for problem in problems})],
    }
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": [_result(one) for one in problems]}],
    }


def _result(problem: Problem) -> dict[str, Any]:
    region = {"startLine": problem.line, "startColumn": problem.column}
    location = {"artifactLocation": {"uri": quote(problem.file)}, "region": region}
    return {
        "ruleId": problem.code,
        "level": "note" if problem.severity is Severity.NOTE else "error",
        "message": {"text": f"{problem.text}; {problem.fix}"},
        "locations": [{"physicalLocation": location}],
    }


def junit(results: Sequence[tuple[str, CaseResult]]) -> str:
    """Test results, by file, in the form that build servers read."""
    failed = sum(bool(result.problem) for _, result in results)
    suite = ET.Element(
        "testsuite", name="ringfence policy", tests=str(len(results)), failures=str(failed)
    )
    for file, result in results:
        case = ET.SubElement(suite, "testcase", classname=file, name=result.name)
        if result.problem:
            ET.SubElement(case, "failure", message=result.problem)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def _annotation(problem: Problem) -> str:
    level = "notice" if problem.severity is Severity.NOTE else "error"
    place = f"file={_escaped(problem.file)},line={problem.line},col={problem.column}"
    text = _escaped(f"{problem.text}; {problem.fix}")
    return f"::{level} {place},title={problem.code}::{text}"


def _escaped(text: str) -> str:
    """As workflow commands want it, so that no name in a file ends the command."""
    for char, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), (":", "%3A"), (",", "%2C")):
        text = text.replace(char, code)
    return text
