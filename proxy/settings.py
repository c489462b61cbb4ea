"""The settings: read once, frozen, unknown keys refused.

Each setting is an environment variable ``RINGFENCE_<NAME>``.
The docstring of each field is what `docs/settings.md` and `ringfence check` show.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from proxy.address import plain
from proxy.errors import SettingsError

PREFIX = "RINGFENCE_"


def _is_plain(url: str) -> str:
    plain(url)
    return url


Address = Annotated[str, AfterValidator(_is_plain)]


class Settings(BaseSettings):
    """Everything an operator can set. A relative path is relative to the working directory."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs `keys_file`."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on."""
    workers: int = Field(default=1, ge=1, le=64)
    """Server processes. Each has its own ledger chain and its own detector processes."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1", "localhost", "[::1]")
    """Host names a request may carry in its Host header (comma separated; a port is ignored)."""
    keys_file: Path | None = None
    """YAML table of client API keys (as SHA-256) with app and team. None: one open caller."""
    data_dir: Path = Path("data")
    """Where ledger, pins and keys live. Never inside the source tree of the project."""
    ledger_url: SecretStr | None = None
    """`postgresql://…` of a ledger that many replicas share. None: files in `data_dir`."""
    capture_key_file: Path | None = None
    """An auditor's public key: what leaves is kept, encrypted to it. None: no body is kept."""
    policy_file: Path = Path("policies/default.yaml")
    """The policy in force."""
    policy_trust_dir: Path | None = None
    """Folder of the keys (`*.pub`) that may sign policies. None: a policy needs no signature."""
    policy_second_person: bool = False
    """A policy that may be looser than the one in force needs the signatures of two persons."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: readable on a terminal, JSON otherwise."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged. No level ever logs request or response text."""
    expose_route_headers: bool = False
    """Send route and confidence headers. Off: a disclosure surface (OWASP LLM02:2026)."""
    expose_metrics: bool = False
    """Let every caller read `/metrics`. Off: only keys with the scope `read_metrics` may."""

    max_body_bytes: int = Field(default=10 * 2**20, ge=1024)
    """Largest request body, in bytes; a larger one gets 413."""
    max_file_bytes: int = Field(default=32 * 2**20, ge=1024)
    """Largest file for a batch, in bytes; a larger one gets 413."""
    max_json_depth: int = Field(default=64, ge=4, le=200)
    """Deepest nesting of a request body."""
    request_timeout_s: float = Field(default=300.0, gt=0)
    """Longest time for one request, from the first byte to the answer."""

    inspection_workers: int = Field(default=1, ge=1, le=32)
    """Detector processes next to each server process; of several, one is kept for short texts."""
    inspection_timeout_s: float = Field(default=10.0, gt=0)
    """Longest time for one inspection; what is not inspected by then is unscannable."""
    languages: Annotated[tuple[str, ...], NoDecode] = ("en",)
    """Languages whose names the detectors can find (comma separated)."""
    token_model_dir: Path | None = None
    """Folder of a token-classification model (transformers) that finds names as well."""
    ocr: Literal["off", "find", "clear"] = "off"
    """Pictures: not read; read so that rules fire, yet never sent; or sent where all was read."""

    local_base_url: Address | None = None
    """OpenAI-compatible endpoint of the local tier. None: the embedded server is used."""
    local_api_key: SecretStr | None = None
    """Key for the local endpoints, where they want one."""
    local_model: str = "smollm2-135m-instruct"
    """Model name to ask the local endpoint for."""
    local_timeout_s: float = Field(default=120.0, gt=0)
    """Longest wait for a local answer."""
    embedding_base_url: Address | None = None
    """OpenAI-compatible endpoint for embeddings at home. None: `local_base_url`."""
    embedding_model: str = "all-minilm-l6-v2"
    """Model name to ask that endpoint for; clients ask for it, or for `ringfence`."""
    embedding_model_dir: Path = Path.home() / ".cache" / "ringfence" / "models" / "all-minilm-l6-v2"
    """Folder of the embedded server's encoder (`ringfence model pull` fills the default one)."""
    speech_base_url: Address | None = None
    """OpenAI-compatible endpoint that reads aloud, at home. None: `local_base_url`."""
    speech_model: str | None = None
    """Model name to ask that endpoint for; goes with `speech_base_url`. None: `local_model`."""
    transcription_base_url: Address | None = None
    """OpenAI-compatible endpoint that turns sound into text, at home. None: `local_base_url`."""
    transcription_model: str | None = None
    """Model name to ask that endpoint for; goes with its address. None: `local_model`."""
    images_base_url: Address | None = None
    """OpenAI-compatible endpoint that makes and changes pictures. None: `local_base_url`."""
    images_model: str | None = None
    """Model name to ask that endpoint for; goes with `images_base_url`. None: `local_model`."""
    model_dir: Path = Path.home() / ".cache" / "ringfence" / "models" / "smollm2-135m-instruct"
    """Folder of the served model, in safetensors (`ringfence model pull` fills the default one)."""
    embedded_port: int = Field(default=0, ge=0, le=65535)
    """Port of the embedded server on loopback; 0 takes a free one."""
    embedded_base_url: Address | None = None
    """Where the embedded server listens. Nobody sets it: `ringfence serve` tells its processes."""

    estimator: str = "mean_logprob"
    """How confidence in a draft is measured; `docs/routing.md` describes each."""
    confidence_threshold: float | None = Field(default=None, le=1.0)
    """Score below which a draft escalates. None: the calibrated one, else the estimator's guess."""
    calibration_file: Path | None = None
    """Calibration that `ringfence calibrate` made; refused for another model or estimator."""
    rungs_file: Path | None = None
    """Chain of cloud models, in place of a calibration; `ringfence evaluate --rungs` makes it."""
    pre_router: bool = False
    """Send what no draft would answer on before it is drafted; `ringfence calibrate --ahead`."""
    early_exit: bool = False
    """Give a draft up once no end of it can reach the threshold; changes no route."""

    early_commit: bool = False
    """Tell a draft while it is written once its beginning is sure; see `calibrate --commit`."""

    routing_mode: Literal["cascade", "shadow"] = "cascade"
    """`shadow`: decide, never escalate, and record what would have been (`would_escalate`)."""
    cloud_first_apps: Annotated[tuple[str, ...], NoDecode] = ()
    """Apps whose requests, where policy lets them leave, go to the cloud without a draft."""

    cloud_api_key: SecretStr | None = None
    """Key for the cloud; `OPENAI_API_KEY` serves as well. None: the proxy is local-only."""
    credentials_file: Path | None = None
    """YAML of which key each host gets, abroad and at home; with it none gets another."""
    cloud_timeout_s: float = Field(default=60.0, gt=0)
    """Longest wait for a cloud answer."""
    cloud_ca_file: Path | None = None
    """The certificate authority to trust for cloud destinations, in place of the system's."""
    pin_ttl_s: float = Field(default=86_400.0, gt=0)
    """How long a pinned exchange pins what quotes it, once its answer is no more kept here."""
    stored_ttl_s: float = Field(default=86_400.0, gt=0)
    """How long stored responses, files and batches are kept, encrypted."""
    plan_file: Path | None = None
    """Plan of which lines of a batch are worth a cloud model; `ringfence evaluate --plan-out`."""
    batch_budget_usd: float | None = Field(default=None, gt=0)
    """US dollars that the plan of a batch may come to; needs `plan_file`."""
    batch_concurrency: int = Field(default=2, ge=1, le=64)
    """Lines of batches that are asked at once, beside live requests."""
    max_cloud_requests_per_minute: int = Field(default=600, ge=1)
    """Hard cap on cloud attempts of a server process; over it a draft stays local, degraded."""
    prices_file: Path | None = None
    """YAML table of what cloud tokens cost (`docs/costs.md`). None: no cost is known."""
    budgets_file: Path | None = None
    """YAML of daily and monthly cloud budgets, by team; needs `prices_file`. None: no budget."""

    @property
    def ledger_dir(self) -> Path:
        """Where the audit records live."""
        return self.data_dir / "ledger"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment, once.

    Raises:
        SettingsError: a variable with our prefix is unknown, or a value is out of range. The
            message names the setting, never its value (it may be a key).
    """
    env = os.environ if environ is None else environ
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in env if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"unknown settings: {', '.join(unknown)}")
    values: dict[str, object] = {
        name: env[PREFIX + name.upper()]
        for name in Settings.model_fields
        if env.get(PREFIX + name.upper(), "") != ""
    }
    is_bound = "credentials_file" in values  # to hosts, which the usual variable is not
    if not is_bound and "cloud_api_key" not in values and env.get("OPENAI_API_KEY"):
        values["cloud_api_key"] = env["OPENAI_API_KEY"]
    for name in ("allowed_hosts", "languages", "cloud_first_apps"):
        if isinstance(text := values.get(name), str):
            values[name] = tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{PREFIX}{str(fault['loc'][0]).upper() if fault['loc'] else '?'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError(faults) from None
    _check_together(settings)
    return settings


def _check_together(settings: Settings) -> None:
    """Refuse settings that are good alone, and not beside each other.

    Raises:
        SettingsError: two of them do not go together.
    """
    if settings.ocr != "off" and importlib.util.find_spec("rapidocr") is None:
        raise SettingsError("RINGFENCE_OCR needs RapidOCR: pip install 'ringfence[ocr]'")
    if settings.capture_key_file is not None and settings.ledger_url is not None:
        raise SettingsError(
            "RINGFENCE_CAPTURE_KEY_FILE needs a ledger in files: leave out RINGFENCE_LEDGER_URL"
        )
    for name in ("cloud_api_key", "local_api_key"):
        if settings.credentials_file is not None and getattr(settings, name) is not None:
            raise SettingsError(
                f"RINGFENCE_CREDENTIALS_FILE and {PREFIX}{name.upper()} are both set: "
                "name the host of that key in the file"
            )
    if settings.keys_file is None and settings.host not in ("127.0.0.1", "localhost", "::1"):
        raise SettingsError(
            "RINGFENCE_HOST is not loopback and RINGFENCE_KEYS_FILE is not set: "
            "name a key table, or listen on 127.0.0.1"
        )
    if settings.budgets_file is not None and settings.prices_file is None:
        raise SettingsError(
            "RINGFENCE_BUDGETS_FILE is set and RINGFENCE_PRICES_FILE is not: "
            "name what the tokens cost"
        )
    if settings.batch_budget_usd is not None and settings.plan_file is None:
        raise SettingsError(
            "RINGFENCE_BATCH_BUDGET_USD is set and RINGFENCE_PLAN_FILE is not: name the plan"
        )
    if settings.policy_second_person and settings.policy_trust_dir is None:
        raise SettingsError(
            "RINGFENCE_POLICY_SECOND_PERSON is set and RINGFENCE_POLICY_TRUST_DIR is not: "
            "name the folder of the keys that may sign"
        )
    for name in ("speech", "transcription", "images"):
        if getattr(settings, f"{name}_base_url") and not getattr(settings, f"{name}_model"):
            upper = PREFIX + name.upper()
            raise SettingsError(
                f"{upper}_BASE_URL is set and {upper}_MODEL is not: name the model to ask for"
            )
