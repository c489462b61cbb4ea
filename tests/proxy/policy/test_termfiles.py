"""Word lists of a policy: read strictly, part of its digest, never from another folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import PolicyError
from proxy.policy.model import Policy
from proxy.policy.reload import PolicyKeeper, Verdict
from proxy.policy.source import FilePolicySource
from proxy.policy.termfiles import MAX_BYTES, MAX_TERMS
from tests.proxy.policy.policies import write

TEXT = (
    "default: allow\nrecognizers:\n  - entity: PROJECT\n    category: business\n    why: NDA 7\n"
    "    score: 0.8\n    terms: [Orca]\n    terms_file: projects.txt\n"
    "    examples: {match: [orca], no_match: [tuna]}\n"
)


def put(folder: Path, raw: bytes) -> Path:
    (folder / "projects.txt").write_bytes(raw)
    return write(folder, TEXT)


def load(folder: Path, raw: bytes) -> Policy:
    return FilePolicySource(put(folder, raw)).load()


def test_reads_a_term_a_line_without_comments(tmp_path: Path) -> None:
    policy = load(tmp_path, "# ours\n\n  Blue Whale \r\nÉclair\n".encode())
    assert policy.recognizers.all[0].terms == ("Blue Whale", "Orca", "Éclair")


def test_its_bytes_are_part_of_the_digest(tmp_path: Path) -> None:
    first = load(tmp_path, b"Blue Whale\n")
    second = load(tmp_path, b"Blue Whale\n# and no more\n")
    assert first.digest != second.digest
    assert first.recognizers == second.recognizers


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "projects.txt has no terms"),
        (b"ok\nx\n", "has no term of 2 to 200 characters in line 2"),
        (b"ok\n--\n", "in line 2"),
        (b"ok\n" + b"x" * 201, "in line 2"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"x" * (MAX_BYTES + 1), "is larger than"),
        (b"\n".join(b"x%d" % n for n in range(MAX_TERMS + 1)), "has more than"),
    ],
    ids=["empty", "short", "signs", "long", "encoding", "size", "number"],
)
def test_refuses_what_is_no_word_list(tmp_path: Path, raw: bytes, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, raw)
    assert "trial.yaml:12:5 RF110 PROJECT: projects.txt" in caught.value.public_message
    assert says in caught.value.public_message


def test_refuses_a_link_that_leads_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "list.txt").write_text("Blue Whale\n")
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "projects.txt").symlink_to(tmp_path / "secret" / "list.txt")
    with pytest.raises(PolicyError, match="leads out of its folder"):
        FilePolicySource(write(tmp_path / "rules", TEXT)).load()


def test_a_changed_list_is_a_new_version_of_the_policy(tmp_path: Path) -> None:
    keeper = PolicyKeeper(put(tmp_path, b"Blue Whale\n"))
    before = keeper.current()
    (tmp_path / "projects.txt").write_bytes(b"Blue Whale\nGrey Seal\n")
    reload = keeper.check()
    assert reload is not None
    assert reload.verdict is Verdict.LOADED
    assert keeper.current().recognizers.version != before.recognizers.version


def test_a_version_refused_for_a_missing_list_is_taken_when_the_list_comes(tmp_path: Path) -> None:
    path = write(tmp_path, "default: allow\n")
    keeper = PolicyKeeper(path)
    write(tmp_path, TEXT)
    refused = keeper.check()
    assert refused is not None
    assert refused.verdict is Verdict.REJECTED
    (tmp_path / "projects.txt").write_bytes(b"Blue Whale\n")
    taken = keeper.check()
    assert taken is not None
    assert taken.verdict is Verdict.LOADED
