"""Settings: read once, unknown ones refused, unsafe ones refused, values never shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.errors import SettingsError
from proxy.settings import PREFIX, Settings, load_settings

DOC = Path(__file__).parent.parent.parent / "docs" / "settings.md"


def test_reads_the_environment() -> None:
    settings = load_settings(
        {
            "RINGFENCE_PORT": "9000",
            "RINGFENCE_LANGUAGES": "en, de",
            "RINGFENCE_DATA_DIR": "/var/lib/ringfence",
            "HOME": "/root",
        }
    )
    assert (settings.port, settings.languages) == (9000, ("en", "de"))
    assert settings.ledger_dir == Path("/var/lib/ringfence/ledger")


def test_an_empty_variable_is_the_default() -> None:
    assert load_settings({"RINGFENCE_PORT": ""}).port == 8080


def test_the_usual_key_serves_and_ours_goes_first() -> None:
    both = {"OPENAI_API_KEY": "theirs", "RINGFENCE_CLOUD_API_KEY": "ours"}
    for env, expected in (({"OPENAI_API_KEY": "theirs"}, "theirs"), (both, "ours")):
        key = load_settings(env).cloud_api_key
        assert key is not None
        assert key.get_secret_value() == expected
        assert expected not in repr(load_settings(env))


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"RINGFENCE_PROT": "1"}, "RINGFENCE_PROT"),
        ({"RINGFENCE_PORT": "secret-canary"}, "RINGFENCE_PORT"),
        ({"RINGFENCE_CONFIDENCE_THRESHOLD": "1.5"}, "RINGFENCE_CONFIDENCE_THRESHOLD"),
        ({"RINGFENCE_WORKERS": "0"}, "RINGFENCE_WORKERS"),
        ({"RINGFENCE_HOST": "192.0.2.1"}, "RINGFENCE_KEYS_FILE"),
        *(
            (
                {"RINGFENCE_CREDENTIALS_FILE": "keys.yaml", f"RINGFENCE_{name}_API_KEY": "canary"},
                f"RINGFENCE_{name}_API_KEY",
            )
            for name in ("CLOUD", "LOCAL")
        ),
        *(
            ({f"RINGFENCE_{name}_BASE_URL": "http://canary"}, f"RINGFENCE_{name}_MODEL")
            for name in ("SPEECH", "TRANSCRIPTION", "IMAGES")
        ),
    ],
    ids=[
        "unknown",
        "no number",
        "out of range",
        "none",
        "open to the world",
        "two kinds of keys abroad",
        "two kinds of keys at home",
        "no model that reads aloud",
        "no model that hears",
        "no model that draws",
    ],
)
def test_refuses_and_names_the_setting_but_not_its_value(env: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(env)
    assert named in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_refuses_to_read_pictures_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="RINGFENCE_OCR"):
        load_settings({f"{PREFIX}OCR": "find"})


def test_refuses_to_capture_into_a_database() -> None:
    env = {"RINGFENCE_CAPTURE_KEY_FILE": "x.pub", "RINGFENCE_LEDGER_URL": "postgresql://db/x"}
    with pytest.raises(SettingsError, match="needs a ledger in files"):
        load_settings(env)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load_settings({}).port = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description
    assert f"| `{PREFIX}{name.upper()}` |" in DOC.read_text()
    assert field.description in DOC.read_text()


def test_a_budget_needs_prices() -> None:
    with pytest.raises(SettingsError, match="RINGFENCE_PRICES_FILE is not"):
        load_settings({"RINGFENCE_BUDGETS_FILE": "budgets.yaml"})


def test_every_setting_of_the_page_is_taken() -> None:
    rows = re.findall(r"^\| `(RINGFENCE_\w+)` \| (?:`(.*?)`|–) \|", DOC.read_text(), re.MULTILINE)
    assert {name.removeprefix(PREFIX).lower() for name, _ in rows} == set(Settings.model_fields)
    told = {name: default.replace("~", str(Path.home())) for name, default in rows if default}
    assert load_settings(told) == load_settings({})
    for name, default in told.items():
        assert load_settings({name: default}) == load_settings({}), name


@pytest.mark.parametrize(
    "name", [n for n in Settings.model_fields if n.endswith(("ttl_s", "out_s"))]
)
@pytest.mark.parametrize("limit", ["0", "-1", "nan"])
def test_no_time_limit_is_zero(name: str, limit: str) -> None:
    with pytest.raises(SettingsError, match=name.upper()):
        load_settings({f"{PREFIX}{name.upper()}": limit})


def test_an_empty_variable_of_the_process_is_the_default_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RINGFENCE_CONFIDENCE_THRESHOLD", "")
    assert load_settings().confidence_threshold is None
