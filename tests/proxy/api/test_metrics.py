"""Who may read the counts (C33): a key with the scope, or everybody where the operator says so."""

from __future__ import annotations

from pathlib import Path

from tests.proxy.api.front_door import CANARY, front_door
from tests.proxy.api.test_app import get
from tests.proxy.api.test_auth import SECRET, row
from tests.proxy.api.test_gate import code, post, status


def asked_by(secret: str) -> bytes:
    head = b"Host: localhost\r\nAuthorization: Bearer %b\r\n" % secret.encode()
    return get(b"/metrics").replace(b"Host: localhost\r\n", head)


def test_only_a_key_with_the_scope_reads_the_counts(tmp_path: Path) -> None:
    table = tmp_path / "keys.yaml"
    table.write_text(row() + row("scraper", id="k2", scopes="{read_metrics: true}"))
    with front_door({"RINGFENCE_KEYS_FILE": str(table)}) as door:
        without_key = door.raw(get(b"/metrics"))
        assert (status(without_key), code(without_key)) == (401, "invalid_api_key")
        without_scope = door.raw(asked_by(SECRET))
        assert (status(without_scope), code(without_scope)) == (403, "metrics_not_allowed")
        with_scope = door.raw(asked_by("scraper"))
    assert status(with_scope) == 200
    assert b"content-type: text/plain; version=0.0.4" in with_scope.lower()
    assert b'ringfence_http_responses_total{door="metrics",status="403"} 1.0' in with_scope


def test_without_a_key_table_nobody_reads_them_unless_the_operator_says_so() -> None:
    with front_door() as door:
        assert status(door.raw(get(b"/metrics"))) == 403
    with front_door({"RINGFENCE_EXPOSE_METRICS": "true"}) as door:
        door.raw(get(b"/" + CANARY.encode()))
        door.raw(post().replace(b"POST", CANARY.encode(), 1))
        got = door.raw(get(b"/metrics"))
    assert status(got) == 200
    assert b'{door="other",status="404"} 1.0' in got
    assert CANARY.encode() not in got


def test_the_counts_are_there_when_there_is_no_room_for_requests() -> None:
    with front_door({"TEST_MAX_CONCURRENT": "0", "RINGFENCE_EXPOSE_METRICS": "true"}) as door:
        assert status(door.raw(post())) == 503
        assert status(door.raw(get(b"/metrics"))) == 200
