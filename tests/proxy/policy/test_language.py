"""Whatever says nothing, or two things at once, is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import PolicyError
from proxy.policy.source import FilePolicySource
from tests.proxy.policy.policies import load, write

RULE = "rules: [{{id: r, why: GDPR, when: {when}, action: block}}]\n"
DESTINATION = (
    "destinations: [{{id: a, provider: o, base_url: '{url}', models: [m], region: eu,"
    " transfer: {{recipient: r, country: IE, basis: b, retention: z}}{more}}}]\n"
)
CASE = "tests: [{{name: it, expect: {{action: block}}, {given}}}]\n"

REFUSED = {
    "a part of nothing": RULE.format(when="{all_of: [{min_score: 0.5}]}"),
    "always and more": RULE.format(when="{always: true, languages: [en]}"),
    "never": RULE.format(when="{always: false}"),
    "an unknown entity absent": DESTINATION.format(
        url="https://a.example", more=", only_for: {entities_absent: [PERSN]}"
    ),
    "http to a far host": DESTINATION.format(url="http://a.example", more=""),
    "no host": DESTINATION.format(url="https:///v1", more=""),
    "port zero": DESTINATION.format(url="https://a.example:0", more=""),
    "port too high": DESTINATION.format(url="https://a.example:99999", more=""),
    "broken address": DESTINATION.format(url="https://[::1", more=""),
    "query": DESTINATION.format(url="https://a.example/?key=1", more=""),
    "looks like loopback": DESTINATION.format(url="http://127.0.0.1.a.example", more=""),
    "an unknown entity in a test": CASE.format(given="findings: [{entity: PERSN, score: 1.0}]"),
    "a test of both": CASE.format(given="user: hi, findings: []"),
    "a language beside a text": CASE.format(given="user: hi, languages: [en]"),
    "a destination twice": DESTINATION.format(url="https://a.example", more="").replace(
        "[{", "[{id: a, provider: o, base_url: 'https://b.example', models: [m], region: eu,"
        " transfer: {recipient: r, country: IE, basis: b, retention: z}}, {", 1
    ),
    "an exception twice": RULE.format(when="{entities: [PERSON]}")
    + "exceptions:\n"
    + "  - {id: e, loosens: r, to: allow, scope: {apps: [a]}, why: because, ticket: T-1,"
    " owner: a@x, approved_by: b@x, until: 2026-12-31}\n" * 2,
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_the_line(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, REFUSED[name])
    with pytest.raises(PolicyError) as caught:
        FilePolicySource(path).load()
    for message in caught.value.public_message.splitlines():
        place, _, mend = message.partition("; ")
        assert place.startswith(f"{path}:")
        assert int(place.removeprefix(f"{path}:").split(":")[0]) >= 5
        assert mend


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://localhost/v1", "http://[::1]:8"])
def test_takes_plain_http_to_this_machine(tmp_path: Path, url: str) -> None:
    [destination] = load(tmp_path, DESTINATION.format(url=url, more="")).content.destinations
    assert destination.base_url.startswith("http://")
