"""The commands that a security engineer runs, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy.policy.cli import app, schema
from tests.proxy.policy.policies import OPEN, write
from tests.proxy.policy.test_replay import record

GOOD = (
    "default: allow\n"
    + OPEN
    + "rules: [{id: r, why: GDPR, when: {entities: [PERSON]}, action: local_only}]\n"
    "tests:\n"
    "  - {name: a name, findings: [{entity: PERSON, score: 1.0}],"
    " expect: {action: local_only, rule: r}}\n"
    "  - {name: free, findings: [], expect: {action: allow, destination: eu}}\n"
)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_lint_passes_a_good_file(tmp_path: Path) -> None:
    assert run("lint", write(tmp_path, GOOD)) == (0, "")


def test_lint_of_a_folder_fails_for_one_bad_file(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a")
    write(tmp_path, GOOD.replace("PERSON]", "PERSN]"), "b")
    code, text = run("lint", tmp_path)
    assert code == 1
    assert "b.yaml:" in text
    assert "a.yaml:" not in text


def test_lint_speaks_json_and_github(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("PERSON]", "PERSN]"))
    assert json.loads(run("lint", path, "--format", "json")[1])[0]["code"] == "RF104"
    assert run("lint", path, "--format", "github")[1].startswith("::error file=")


def test_lint_speaks_sarif(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("PERSON]", "PERSN]"))
    [result] = json.loads(run("lint", path, "--format", "sarif")[1])["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (result["ruleId"], result["level"]) == ("RF104", "error")
    assert place["artifactLocation"]["uri"] == str(path)
    assert place["region"]["startLine"] > 1
    clean = run("lint", write(tmp_path, GOOD), "--format", "sarif")
    assert (clean[0], json.loads(clean[1])["runs"][0]["results"]) == (0, [])


def test_a_name_cannot_end_a_github_command(tmp_path: Path) -> None:
    path = write(tmp_path, '"a\\n::set-output name=x::y": 1\n')
    lines = run("lint", path, "--format", "github")[1].strip().splitlines()
    assert all(line.startswith("::error file=") for line in lines)


def test_test_passes_and_writes_junit(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    code, text = run("test", write(tmp_path, GOOD), "--junit", report)
    assert (code, "2 passed, 0 failed" in text) == (0, True)
    assert 'tests="2" failures="0"' in report.read_text()


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("expect: {action: allow", "expect: {action: block"),
        GOOD.replace("destination: eu}", "destination: us}"),
        GOOD[: GOOD.index("tests:")],
        GOOD.replace("action: local_only}]", "action: nonsense}]"),
    ],
    ids=["wrong action", "wrong destination", "no tests", "does not lint"],
)
def test_test_fails(tmp_path: Path, text: str) -> None:
    assert run("test", write(tmp_path, text))[0] == 1


def test_junit_tells_a_failure(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    wrong = "  - {name: wrong, findings: [], expect: {action: block}}\n"
    code, text = run("test", write(tmp_path, GOOD + wrong), "--junit", report)
    assert (code, "2 passed, 1 failed" in text) == (1, True)
    assert 'failures="1"' in report.read_text()
    assert "expected block, got allow by the default" in report.read_text()


def test_explain_names_the_rule_and_shows_no_text(tmp_path: Path) -> None:
    code, text = run("explain", write(tmp_path, GOOD), "--text", "Write to Jane Doe now.")
    assert code == 0
    assert text.startswith("local_only by r")
    assert "PERSON up to" in text
    assert "Jane" not in text


def test_explain_speaks_json(tmp_path: Path) -> None:
    text = run("explain", write(tmp_path, GOOD), "--text", "Will it rain?", "--json")[1]
    said = json.loads(text)
    assert (said["action"], said["destinations"]) == ("allow", ["eu"])


def test_diff_proves_and_refuses(tmp_path: Path) -> None:
    good = write(tmp_path, GOOD, "a")
    looser = write(tmp_path, GOOD.replace("{entities: [PERSON]}", "{entities: [VIN]}"), "b")
    assert run("diff", good, good)[0] == 0
    code, text = run("diff", good, looser)
    assert code == 1
    assert "1 x PERSON at 0" in text


def test_a_missing_policy_is_one_line_and_exit_1(tmp_path: Path) -> None:
    code, text = run("diff", tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert (code, len(text.splitlines())) == (1, 1)


def test_the_published_schema_is_current() -> None:
    assert Path("policies/schema.json").read_text() == schema()
    assert run("schema") == (0, schema())


def test_explain_tells_each_rule_in_a_line(tmp_path: Path) -> None:
    _, text = run("explain", write(tmp_path, GOOD), "--text", "Will it rain?")
    assert text.splitlines()[0] == "allow by the default"
    assert any("-  r (trial.yaml:" in line for line in text.splitlines())


CARD_BODY = {"messages": [{"role": "user", "content": "hi"}], "x": {"4111 1111 1111 1111": 1}}


def test_explain_reads_a_request_and_prints_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(CARD_BODY))
    policy = write(tmp_path, GOOD.replace("[PERSON]}", "[CREDIT_CARD]}"))
    code, text = run("explain", policy, "--request", path)
    assert code == 0
    assert text.splitlines()[0] == "local_only by r"
    assert "CREDIT_CARD 1.00 by presidio in key outside messages" in text
    assert "not to leave (local_only)" in text
    as_json = run("explain", policy, "--request", path, "--json")[1]
    assert {seen["entity"] for seen in json.loads(as_json)["findings"]} >= {"CREDIT_CARD"}
    assert "4111" not in text + as_json


def test_explain_shows_words_on_a_terminal_only(tmp_path: Path) -> None:
    code, text = run("explain", write(tmp_path, GOOD), "--text", "Jane Doe", "--show")
    assert code == 2
    assert "on a terminal" in text


@pytest.mark.parametrize(
    "options",
    [
        ("--text", "a", "--request", "b"),
        ("--record", "dec_1"),
        ("--ledger", "x", "--text", "a"),
        ("--text", "a", "--json", "--show"),
    ],
)
def test_explain_refuses_options_that_do_not_go_together(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    assert run("explain", write(tmp_path, GOOD), *options)[0] == 2


@pytest.mark.parametrize("raw", [None, b"{", b'{"a": 1, "a": 2}'], ids=["none", "cut", "twice"])
def test_explain_says_in_a_line_what_is_wrong_with_a_request(
    tmp_path: Path, raw: bytes | None
) -> None:
    path = tmp_path / "request.json"
    if raw is not None:
        path.write_bytes(raw)
    code, text = run("explain", write(tmp_path, GOOD), "--request", path)
    assert (code, len(text.splitlines())) == (1, 1)


def test_explain_reads_a_record(tmp_path: Path) -> None:
    wal = tmp_path / "ledger" / "wal"
    wal.mkdir(parents=True)
    past = record(
        ("PERSON", 1, 0.9), decision_id="dec_1", policy={"action": "allow", "digest": "x"}
    )
    broken = {"kind": "decision", "decision_id": "dec_2"}
    (wal / "chain.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (broken, past)))
    good = write(tmp_path, GOOD)
    code, text = run("explain", good, "--record", "dec_1", "--ledger", tmp_path / "ledger")
    assert (code, text.splitlines()[0]) == (0, "local_only by r")
    assert "decided under another policy" in text
    assert "PERSON 0.90" in text
    for gone in ("dec_2", "dec_3"):
        answer = run("explain", good, "--record", gone, "--ledger", tmp_path / "ledger")
        assert (answer[0], len(answer[1].splitlines())) == (1, 1)


def test_test_says_what_its_tests_show(tmp_path: Path) -> None:
    code, text = run("test", write(tmp_path, GOOD))
    assert code == 0
    assert "of 1 rules 1 match in a test, 1 do not in one; block 0, local_only 1" in text


def test_test_tries_forms_and_places(tmp_path: Path) -> None:
    cards = GOOD.replace("[PERSON]}", "[CREDIT_CARD]}").replace("PERSON", "CREDIT_CARD")
    case = (
        "  - {name: hidden, user: pay 4111 1111 1111 1111, forms: [base64, tags],"
        " places: [user, tool result, key], expect: {action: local_only}}\n"
    )
    code, text = run("test", write(tmp_path, cards + case))
    assert (code, "hidden (6 forms and places)" in text) == (0, True)


def test_fmt_lays_out_once_and_checks(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "# end\nscope:   {}\n")
    assert run("fmt", path, "--check") == (1, f"would lay out {path}\n")
    assert run("fmt", path) == (0, f"laid out {path}\n")
    assert run("fmt", path, "--check") == (0, "")
    assert path.read_text().endswith("# end\nscope: {}\n")
    bad = write(tmp_path, "a: &b 1\n", "bad")
    code, text = run("fmt", bad)
    assert (code, len(text.splitlines())) == (1, 1)


def test_diff_says_what_it_cannot_prove(tmp_path: Path) -> None:
    scopes = ", ".join(f"{key}: [a, b, c, d, e, f, g, h, i]" for key in ("apps", "teams", "keys"))
    rule = "rules: [{id: r, why: GDPR, when: {entities: [PERSON]}, action: local_only"
    old = write(tmp_path, "default: allow\n" + OPEN + rule + f", scope: {{{scopes}}}}}]\n", "a")
    code, text = run("diff", old, write(tmp_path, "default: allow\n" + OPEN, "b"))
    assert (code, text) == (1, "not proved: r: too many callers\n")


def test_diff_names_a_construct_that_loosens(tmp_path: Path) -> None:
    new = write(tmp_path, GOOD + "unrecorded_local: true\n", "b")
    code, text = run("diff", write(tmp_path, GOOD, "a"), new)
    assert code == 1
    assert text.startswith("looser: ")


def test_diff_over_a_ledger_says_what_changes(tmp_path: Path) -> None:
    wal = tmp_path / "ledger" / "wal"
    wal.mkdir(parents=True)
    records = [record(("PERSON", 1, 0.9)), record()]
    lines = [json.dumps(each) + "\n" for each in records]
    (wal / "chain.jsonl").write_text("".join(lines))
    good = write(tmp_path, GOOD)
    code, text = run("diff", good, good, "--over", tmp_path / "ledger")
    assert code == 0
    assert "1 desk: allow, now local_only (changed)" in text
    assert "1 desk: allow, now allow (same)" in text


def test_diff_over_a_ledger_says_what_it_cannot_tell(tmp_path: Path) -> None:
    wal = tmp_path / "ledger" / "wal"
    wal.mkdir(parents=True)
    (wal / "chain.jsonl").write_text(json.dumps(record(("PERSON", 2, 0.9))) + "\n")
    path = write(tmp_path, GOOD.replace("[PERSON]}", "[PERSON], min_score: 0.5, min_count: 2}"))
    text = run("diff", path, path, "--over", tmp_path / "ledger")[1]
    assert "now: cannot say without the text" in text
