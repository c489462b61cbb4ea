"""Credentials: each key is bound to its host, and no fault of the file shows one."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.credentials import Credentials, cloud_credentials, home_credentials
from proxy.errors import SettingsError
from proxy.settings import Settings, load_settings

CANARY = "sk-canary-4711"


def written(folder: Path, *entries: str) -> Settings:
    """Settings with a credentials file of these entries."""
    path = folder / "credentials.yaml"
    path.write_text("credentials:\n" + "".join(f"  - {entry}\n" for entry in entries))
    return load_settings({"RINGFENCE_CREDENTIALS_FILE": str(path)})


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://eu.example.com/v1", "sk-eu"),
        ("https://EU.example.com:443", "sk-eu"),
        ("https://eu.example.com:8443/v1", "sk-port"),
        ("http://eu.example.com/v1", None),
        ("https://us.example.com/v1", None),
        ("https://eu.example.com.evil.example/v1", None),
        ("https://evil.example/eu.example.com", None),
        ("http://[::1]:8000/v1", "sk-home"),
        ("http://127.0.0.1:8000/v1", None),
    ],
)
def test_a_key_goes_to_its_own_host_and_no_other(url: str, key: str | None, tmp_path: Path) -> None:
    settings = written(
        tmp_path,
        "{origin: 'https://eu.example.com', key: sk-eu}",
        "{origin: 'https://eu.example.com:8443', key: sk-port}",
        "{origin: 'http://[::1]:8000', key: sk-home}",
    )
    credentials = cloud_credentials(settings)
    assert credentials is not None
    assert credentials.of(url) == home_credentials(settings).of(url) == key
    assert "sk-" not in repr(credentials)


def test_a_key_may_stand_in_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = written(tmp_path, "{origin: 'https://eu.example.com', env: EU_KEY}")
    monkeypatch.delenv("EU_KEY", raising=False)
    with pytest.raises(SettingsError, match="the variable EU_KEY holds no key"):
        cloud_credentials(settings)
    monkeypatch.setenv("EU_KEY", CANARY)
    assert home_credentials(settings).of("https://eu.example.com/v1") == CANARY


def test_without_a_file_the_one_key_goes_everywhere() -> None:
    settings = load_settings({"OPENAI_API_KEY": "abroad", "RINGFENCE_LOCAL_API_KEY": "home"})
    assert cloud_credentials(settings) == Credentials(other="abroad")
    assert home_credentials(settings).of("http://127.0.0.1:8000/v1") == "home"
    assert cloud_credentials(load_settings({})) is None
    assert home_credentials(load_settings({})).of("http://127.0.0.1:8000/v1") is None


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        (["{origin: 'https://eu.example.com/v1', key: KEY}"], ":2:"),
        (["{origin: eu.example.com, key: KEY}"], ":2:"),
        (["{origin: 'https://u@eu.example.com', key: KEY}"], ":2:"),
        (["{origin: 'https://eu.example.com:99999', key: KEY}"], ":2:"),
        (["{origin: 'https://eu.example.com'}"], "either `key` or `env`"),
        (["{origin: 'https://eu.example.com', key: KEY, env: EU_TOKEN}"], "either `key` or `env`"),
        (["{origin: 'https://eu.example.com', key: ''}"], "holds no key"),
        (["{origin: 'https://eu.example.com', key: \"KEY\\n\"}"], "holds no key"),
        (["{origin: 'https://eu.example.com', key: 'KEY KEY'}"], "holds no key"),
        (["{origin: 'https://eu.example.com', keys: KEY}"], ":2:"),
        (
            [
                "{origin: 'https://eu.example.com', key: KEY}",
                "{origin: 'https://eu.example.com:443', key: KEY}",
            ],
            "names an origin twice",
        ),
        (["{origin: 'https://eu.example.com', key: [KEY]}"], ":2:"),
        (["KEY"], ":2:"),
    ],
)
def test_a_file_that_does_not_hold_is_refused_and_shows_no_key(
    entries: list[str], says: str, tmp_path: Path
) -> None:
    settings = written(tmp_path, *(entry.replace("KEY", CANARY) for entry in entries))
    for load in (cloud_credentials, home_credentials):
        with pytest.raises(SettingsError) as caught:
            load(settings)
        assert says in str(caught.value)
        assert "RINGFENCE_CREDENTIALS_FILE" in str(caught.value)
        assert CANARY not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    settings = load_settings({"RINGFENCE_CREDENTIALS_FILE": str(tmp_path / "none.yaml")})
    with pytest.raises(SettingsError, match="RINGFENCE_CREDENTIALS_FILE"):
        cloud_credentials(settings)
