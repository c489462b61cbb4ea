"""Keys (C38): one header, one table, nothing of either told."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from proxy.api.auth import AuthenticationError, KeyEntry, KeyTable
from proxy.errors import SettingsError
from tests.proxy.api.front_door import CANARY, front_door
from tests.proxy.api.test_gate import code, post, status

SECRET = "rf-5cHq0v2l9wYd"


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def row(secret: str = SECRET, **more: str) -> str:
    fields = {
        "id": "k1",
        "sha256": digest(secret),
        "app": "desk",
        "team": "care",
        "environment": "test",
        **more,
    }
    return "- {" + ", ".join(f"{name}: {value}" for name, value in fields.items()) + "}\n"


@pytest.fixture
def table(tmp_path: Path) -> KeyTable:
    path = tmp_path / "keys.yaml"
    path.write_text(row() + row("other", id="k2", scopes="{expose_route: true}"))
    return KeyTable.load(path)


def auth(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((b"authorization", value) for value in values)]


def test_names_the_caller_of_a_known_key(table: KeyTable) -> None:
    key = table.authenticate(auth(b"Bearer " + SECRET.encode()))
    assert (key.caller.app, key.caller.team, key.caller.key_id) == ("desk", "care", "k1")
    assert not key.expose_route


def test_the_scheme_is_case_insensitive_and_scopes_are_of_the_key(table: KeyTable) -> None:
    assert table.authenticate(auth(b"bearer other")).expose_route


@pytest.mark.parametrize(
    "values",
    [
        (),
        (b"",),
        (b"Bearer",),
        (b"Bearer ",),
        (SECRET.encode(),),
        (b"Basic " + SECRET.encode(),),
        (b"Bearer  x" + SECRET.encode(),),
        (b"Bearer " + SECRET.encode() + b" x",),
        (b"Bearer " + SECRET.encode() + b"\x00",),
        (b"Bearer " + SECRET.encode() + b", Bearer x",),
        (b"Bearer " + SECRET.upper().encode(),),
        (b"Bearer " + SECRET[:-1].encode(),),
        (b"Bearer " + digest(SECRET).encode(),),
        (b"Bearer ' OR 1=1 --",),
        (b"Bearer *)(uid=*",),
        (b"Bearer %s%n%x",),
        (b"Bearer {0.__class__}",),
        (b"Bearer \xff\xfe",),
        (b"Bearer " + b"a" * 10_000,),
        (b"Bearer " + SECRET.encode(), b"Bearer " + SECRET.encode()),
        (b"Bearer x", b"Bearer " + SECRET.encode()),
    ],
)
def test_refuses_all_else(table: KeyTable, values: tuple[bytes, ...]) -> None:
    with pytest.raises(AuthenticationError) as caught:
        table.authenticate(auth(*values))
    assert (caught.value.http_status, caught.value.code) == (401, "invalid_api_key")
    assert SECRET not in str(caught.value.body)


def test_an_empty_table_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("[]")
    with pytest.raises(AuthenticationError):
        KeyTable.load(tmp_path / "keys.yaml").authenticate(auth(b"Bearer x"))


def test_without_a_table_everyone_is_the_open_caller() -> None:
    assert KeyTable.load(None).authenticate(auth(b"Bearer any")).caller.app == "default"
    assert KeyTable.load(None).authenticate([]).caller.key_id == "open"
    with pytest.raises(AuthenticationError):
        KeyTable.load(None).authenticate(auth(b"Bearer a", b"Bearer b"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "- 1",
        row().replace("app:", "appp:"),
        row().replace("desk", "desk\n  x"),
        row(more="1"),
        row(sha256=SECRET),
        row(sha256=digest(SECRET).upper()),
        row(app="'Jane Doe'"),
        row(id="2"),
        row(scopes="{expose_route: 1}"),
        row(scopes="{admin: true}"),
        row() + row(),
        row() + row("other"),
        row() + row(id="k2"),
        "- {id: a, id: b}",
        "- !!python/object/apply:os.getcwd []",
        "[" * 5000,
        "\x00",
        "- *a",
    ],
)
def test_a_table_that_is_wrong_stops_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        KeyTable.load(path)
    assert SECRET not in str(caught.value)


def test_a_missing_table_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        KeyTable.load(tmp_path / "none.yaml")


def test_a_huge_table_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("#" * (2**20 + 1))
    with pytest.raises(SettingsError):
        KeyTable.load(tmp_path / "keys.yaml")


def test_every_entry_is_compared_whatever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        KeyEntry(id=f"k{i}", sha256=digest(f"s{i}"), app="a", team="t", environment="e")
        for i in range(5)
    ]
    compared: list[str] = []

    def count(known: str, _: str) -> bool:
        compared.append(known)
        return known == digest("s0")

    monkeypatch.setattr("proxy.api.auth.hmac.compare_digest", count)
    KeyTable(entries).authenticate(auth(b"Bearer s0"))
    assert len(compared) == 5


def test_without_a_key_the_body_is_not_read_and_health_is_open(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text(
        row() + row("other", id="k2", scopes="{expose_route: true}")
    )
    with front_door({"RINGFENCE_KEYS_FILE": str(tmp_path / "keys.yaml")}) as door:
        head = post(b"").replace(b"Content-Length: 0", b"Content-Length: 5000000")
        bad = b"Authorization: Bearer %b\r\n" % CANARY.encode()
        got = door.raw(head.replace(b"Host:", bad + b"Host:"))
        assert (status(got), code(got)) == (401, "invalid_api_key")
        assert b"www-authenticate: Bearer" in got
        assert CANARY not in door.log() + got.decode()
        assert (
            status(door.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", timeout_s=1))
            == 200
        )
        good = door.raw(post(more=b"Authorization: Bearer %b\r\n" % SECRET.encode()))
        assert status(good) == 200
        assert b"x-ringfence-route" not in good
        scoped = door.raw(post(more=b"Authorization: Bearer other\r\n"))
        assert b"x-ringfence-route: local" in scoped
        assert SECRET not in door.log()
