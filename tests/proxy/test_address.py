"""Addresses: nothing that hides a host, or that a message about it would tell."""

from __future__ import annotations

import pytest

from proxy.address import host_of, origin_of, plain
from proxy.errors import SettingsError
from proxy.settings import Settings, load_settings

ENDPOINTS = [name.upper() for name in Settings.model_fields if name.endswith("_base_url")]


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://EU.example.com/v1", "https://eu.example.com:443"),
        ("http://127.0.0.1", "http://127.0.0.1:80"),
        ("HTTP://[::1]:8000/v1/", "http://::1:8000"),
    ],
)
def test_names_the_host_and_always_the_port(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize("url", ["https://a.example/v1", "https://A.example:443/v1/"])
def test_an_address_is_compared_by_its_host_and_port(url: str) -> None:
    assert host_of(url) == host_of("http://a.example") == "a.example"
    assert host_of("http://a.example:443") == "a.example:443"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "canary.example.com/v1",
        "ftp://canary.example.com",
        "https://",
        "https://:443/v1",
        "https://canary@eu.example.com/v1",
        "https://:canary@eu.example.com/v1",
        "https://@eu.example.com/v1",
        "https://eu.example.com/v1?key=canary",
        "https://eu.example.com/v1#canary",
        "https://eu.example.com:99999/v1",
        "https://eu.example.com:0/v1",
        "https://eu.example.com:canary/v1",
        "https://[::1/v1",
        "https://eu.exa\nmple.com/v1",
        "https://eu.example.com /v1",
        " https://eu.example.com/v1",
    ],
)
def test_refuses_what_is_not_plain_and_says_so_without_it(url: str) -> None:
    with pytest.raises(ValueError, match="plain") as caught:
        plain(url)
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_endpoint_of_the_settings_has_a_plain_address(name: str) -> None:
    env = {f"RINGFENCE_{name}": "http://user:canary@127.0.0.1/v1"}
    with pytest.raises(SettingsError, match=name) as caught:
        load_settings(env)
    assert "canary" not in str(caught.value)


def test_the_settings_have_endpoints() -> None:
    assert {"LOCAL_BASE_URL", "SPEECH_BASE_URL"} <= set(ENDPOINTS)
