"""Policies are read strictly, and joined without loosening."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import PolicyError
from proxy.policy.source import MAX_FILES, FilePolicySource
from proxy.types import Action
from tests.factories import a_finding
from tests.proxy.policy.policies import HEAD, load, write
from tests.proxy.policy.test_decide import ids, said

BAD_YAML = {
    "duplicate key": "owner: again\n",
    "anchor": "default: &a allow\n",
    "alias": "default: *a\n",
    "tag": "default: !!str allow\n",
    "python tag": "default: !!python/object/apply:os.system [id]\n",
    "two documents": "default: allow\n---\ndefault: block\n",
    "tab": "default:\tallow\n\trules: []\n",
    "implicit bool": "unrecorded_local: yes\n",
    "octal": "revision: 0o17\n",
    "merge key": "<<: {default: allow}\n",
    "number as key": "1: allow\n",
    "unknown key": "defualt: allow\n",
    "line by hand": "rules: [{id: a, line: 3, why: abc, when: {always: true}, action: block}]\n",
    "deep": "rules: " + "[" * 5000 + "]" * 5000 + "\n",
    "deep enough": "rules: " + "[" * 60 + "]" * 60 + "\n",
    "nul": "default: \0\n",
    "http": "destinations: [{id: a, provider: o, base_url: 'http://x.example', models: [m],"
    " region: eu, transfer: {recipient: r, country: IE, basis: b, retention: z}}]\n",
    "user in address": "destinations: [{id: a, provider: o, base_url: 'https://u:p@x.example',"
    " models: [m], region: eu, transfer: {recipient: r, country: IE, basis: b, retention: z}}]\n",
    "day as a number": "valid: {from: 20261231}\n",
    "day as seconds": "valid: {from: '1798675200'}\n",
    "unscannable may leave": "on_unscannable: allow\n",
    "empty when": "rules: [{id: a, why: abc, when: {min_score: 0.4}, action: block}]\n",
}


@pytest.mark.parametrize("name", BAD_YAML)
def test_refuses_a_bad_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text(HEAD + BAD_YAML[name])
    with pytest.raises(PolicyError):
        FilePolicySource(path).load()


@pytest.mark.parametrize(
    "raw", [b"\xff\xfe", b"\xef\xbb\xbf" + HEAD.encode(), b"", b"- a\n", b"x" * (1024 * 1024 + 1)]
)
def test_refuses_bad_bytes(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "trial.yaml"
    path.write_bytes(raw)
    with pytest.raises(PolicyError):
        FilePolicySource(path).load()


def test_refuses_a_missing_file_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(PolicyError):
            FilePolicySource(path).load()


def test_says_file_line_column_and_mend(tmp_path: Path) -> None:
    rule = "rules:\n  - id: a\n    why: abc\n    when: {entities: [PERSN]}\n    action: block\n"
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, rule)
    assert caught.value.public_message == (
        f"{tmp_path}/trial.yaml:8:12 RF104 rules[0].when.entities: entity 'PERSN' is not known;"
        " name an entity that detectors find (did you mean PERSON?)"
    )


EXCEPTION = (
    "exceptions: [{{id: e, loosens: {rule}, to: {to}, scope: {scope}, why: because, ticket: T-1,"
    " owner: a@x, approved_by: {by}, until: 2026-12-31}}]\n"
)
FLOOR = "floors: [{id: f, why: abc, when: {entities: [PERSON]}, action: local_only}]\n"
RULE = "rules: [{id: r, why: abc, when: {entities: [PERSON]}, action: local_only}]\n"


@pytest.mark.parametrize(
    ("rule", "to", "scope", "by"),
    [
        ("f", "allow", "{apps: [a]}", "b@x"),
        ("none", "allow", "{apps: [a]}", "b@x"),
        ("r", "local_only", "{apps: [a]}", "b@x"),
        ("r", "allow", "{}", "b@x"),
        ("r", "allow", "{apps: [a]}", "A@x"),
    ],
    ids=["floor", "no such rule", "not looser", "for everyone", "approves their own"],
)
def test_refuses_a_bad_exception(tmp_path: Path, rule: str, to: str, scope: str, by: str) -> None:
    text = EXCEPTION.format(rule=rule, to=to, scope=scope, by=by)
    with pytest.raises(PolicyError):
        load(tmp_path, "default: allow\n" + FLOOR + RULE + text)


def test_takes_a_good_exception(tmp_path: Path) -> None:
    text = EXCEPTION.format(rule="r", to="allow", scope="{apps: [a]}", by="b@x")
    assert load(tmp_path, "default: allow\n" + FLOOR + RULE + text).content.exceptions


def test_an_include_adds_its_rules_and_keeps_their_place(tmp_path: Path) -> None:
    write(tmp_path, RULE, "more")
    policy = load(tmp_path, "default: allow\ninclude: [more]\n")
    decision = said(policy, a_finding())
    assert [(r.id, r.file) for r in decision.rules] == [("r", "more.yaml")]


def test_an_include_never_loosens(tmp_path: Path) -> None:
    write(tmp_path, "default: allow\npublic_figures: allow\n", "loose")
    assert said(load(tmp_path, "include: [loose]\n")).action is Action.BLOCK
    write(tmp_path, "default: local_only\non_unscannable: block\n", "strict")
    policy = load(tmp_path, "default: allow\ninclude: [loose, strict]\n")
    assert said(policy).action is Action.LOCAL_ONLY
    assert policy.content.on_unscannable is Action.BLOCK


def test_the_record_is_kept_for_the_longest_time_that_a_file_asks_for(tmp_path: Path) -> None:
    for name, days in (("short", 90), ("long", 400)):
        write(tmp_path, f"record: {{retention_days: {days}}}\n", name)
    policy = load(tmp_path, "default: allow\ninclude: [short, long]\n")
    assert policy.content.record.retention_days == 400
    assert load(tmp_path, "default: allow\n").content.record.retention_days is None
    for wrong in ("0", "-1", "1.5", "true", "'90'", "\u0669\u0660"):
        with pytest.raises(PolicyError):
            load(tmp_path, f"default: allow\nrecord: {{retention_days: {wrong}}}\n")


def test_only_the_file_in_force_has_answers_kept_and_any_file_forbids_it(tmp_path: Path) -> None:
    def keeps(text: str) -> bool:
        policy = load(tmp_path, f"default: allow\n{text}")
        assert said(policy).keep_answer == bool(policy.content.record.train_on_answers)
        return said(policy).keep_answer

    write(tmp_path, "record: {train_on_answers: true}\n", "yes")
    write(tmp_path, "record: {train_on_answers: false}\n", "no")
    write(tmp_path, "record: {retention_days: 90}\n", "silent")
    yes = "record: {train_on_answers: true}\n"
    assert not keeps("")
    assert not keeps("include: [yes]\n")
    assert keeps(yes)
    assert keeps(yes + "include: [silent, yes]\n")
    assert not keeps(yes + "include: [silent, no]\n")
    for wrong in ("1", "'true'", "[true]"):
        with pytest.raises(PolicyError):
            load(tmp_path, f"default: allow\nrecord: {{train_on_answers: {wrong}}}\n")


def test_an_include_brings_no_exception_allow_list_or_destination(tmp_path: Path) -> None:
    text = EXCEPTION.format(rule="r", to="allow", scope="{apps: [desk]}", by="b@x")
    write(tmp_path, "default: allow\n" + RULE + text, "more")
    policy = load(tmp_path, "default: allow\ninclude: [more]\n")
    assert ids(said(policy, a_finding())) == {"r"}


def test_includes_may_go_in_circles(tmp_path: Path) -> None:
    write(tmp_path, "include: [trial]\n" + RULE, "more")
    assert len(load(tmp_path, "default: allow\ninclude: [more]\n").files) == 2


@pytest.mark.parametrize("name", ["gone", "../etc", "'/etc/passwd'", "a/b", ".hidden"])
def test_refuses_an_include_that_is_not_beside_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(PolicyError):
        load(tmp_path, f"include: [{name}]\n")


def test_refuses_an_include_that_links_elsewhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    inside = tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (inside / "more.yaml").symlink_to(write(outside, RULE))
    with pytest.raises(PolicyError, match="leads out"):
        load(inside, "include: [more]\n")


def test_refuses_an_id_used_twice_over_files(tmp_path: Path) -> None:
    write(tmp_path, RULE, "more")
    with pytest.raises(PolicyError, match="'r' is taken"):
        load(tmp_path, "include: [more]\n" + RULE)


def test_the_digest_covers_every_file(tmp_path: Path) -> None:
    write(tmp_path, RULE, "more")
    before = load(tmp_path, "default: allow\ninclude: [more]\n").digest
    write(tmp_path, RULE + "# changed\n", "more")
    after = load(tmp_path, "default: allow\ninclude: [more]\n").digest
    assert before.startswith("sha256:")
    assert before != after


def test_refuses_true_as_a_version(tmp_path: Path) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text(HEAD.replace("version: 1", "version: true"))
    with pytest.raises(PolicyError):
        FilePolicySource(path).load()


def test_refuses_more_files_than_anyone_reads(tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(MAX_FILES)]
    for name in names:
        write(tmp_path, "", name)
    with pytest.raises(PolicyError, match="include fewer"):
        load(tmp_path, f"include: [{', '.join(names)}]\n")
    assert len(load(tmp_path, f"include: [{', '.join(names[1:])}]\n").files) == MAX_FILES
