"""`ringfence check`: what is configured, what is reachable, what would be refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from audit.errors import AuditError
from audit.stores.address import excess_rights
from proxy.address import host_of
from proxy.credentials import cloud_credentials
from proxy.egress.budgets import load_budgets
from proxy.errors import ProxyError
from proxy.local.model import is_ready
from proxy.local.openai_http import OpenAIHTTPBackend
from proxy.local.places import abroad, places
from proxy.local.probe import Abilities
from proxy.policy.language import DestinationPolicy
from proxy.policy.lint import lint
from proxy.policy.model import Policy
from proxy.policy.refusal import PolicyRefused
from proxy.policy.signature import signers, trusted_keys
from proxy.policy.source import FilePolicySource
from proxy.policy.switch import EgressSwitch
from proxy.prices import load_prices
from proxy.routing.calibration import is_old
from proxy.routing.catalog import threshold_of
from proxy.routing.chain import Chain, calibration_in_force, missing_models
from proxy.routing.committing import commitment_in_force
from proxy.routing.plan import planner_in_force
from proxy.routing.prerouter import foresight_in_force
from proxy.routing.signals import SIGNALS
from proxy.settings import PREFIX, Settings

#: Longest wait for each of the questions to the local tier: somebody looks on.
_PATIENCE_S: Final = 20.0

_LOCAL_KEYS: Final = f"{PREFIX}LOCAL_API_KEY, or {PREFIX}CREDENTIALS_FILE"


@dataclass(frozen=True, slots=True)
class Remark:
    """One line of the check."""

    level: Literal["good", "note", "bad"]
    what: str
    says: str


async def run_checks(settings: Settings) -> tuple[Remark, ...]:
    """Look at every setting that can be wrong; asks nobody but the local tier."""
    credentials = _credentials(settings)
    can_ask = all(remark.level != "bad" for remark in credentials)
    return (
        Remark("good", "listens on", f"{settings.host}:{settings.port}"),
        _keys(settings),
        *_policy(settings),
        await asyncio.to_thread(_data, settings),
        *credentials,
        *(await _local(settings) if can_ask else ()),
        *(await _others(settings) if can_ask else ()),
        *_abroad(settings),
        _cloud(settings),
        _costs(settings),
        _confidence(settings),
        *_plan(settings),
    )


def _keys(settings: Settings) -> Remark:
    if settings.keys_file is None:
        return Remark("note", "clients", "anyone on this machine: no RINGFENCE_KEYS_FILE")
    return Remark("good", "clients", f"keys of {settings.keys_file}")


def _policy(settings: Settings) -> tuple[Remark, ...]:
    problem = ""
    try:
        policy = FilePolicySource(settings.policy_file).load()
    except ProxyError as error:
        problem = error.public_message
    if problem:
        return (Remark("bad", "policy", problem),)
    content = policy.content
    rules = "; ".join(f"{rule.id}: {rule.action.value}" for rule in content.rules)
    named = f"{content.pack} revision {content.revision}, {policy.digest[:19]}"
    return (
        Remark("good", "policy", named),
        *_signatures(settings, policy),
        *_answers(settings, policy),
        Remark("good", "would refuse or keep", rules or "nothing: no rules"),
        Remark("good", "otherwise", policy.fallback.default.value),
        *(Remark("note", "policy lint", advice) for advice in lint(settings.policy_file)),
    )


def _answers(settings: Settings, policy: Policy) -> tuple[Remark, ...]:
    """Whether the answers of clouds are kept, if policy wants that."""
    if not policy.content.record.train_on_answers:
        return ()
    if settings.capture_key_file is None:
        return (Remark("bad", "answers", "kept to learn from: needs RINGFENCE_CAPTURE_KEY_FILE"),)
    return (Remark("good", "answers", "kept to learn from, encrypted to the auditor"),)


def _signatures(settings: Settings, policy: Policy) -> tuple[Remark, ...]:
    trust, problem, persons = settings.policy_trust_dir, "", ""
    if trust is None:
        return (Remark("note", "signatures", "none asked: no RINGFENCE_POLICY_TRUST_DIR"),)
    try:
        persons = ", ".join(signers(policy, settings.policy_file, trusted_keys(trust)))
    except PolicyRefused as error:
        problem = f"{error.reason.value}: {error.public_message}"
    if problem:
        return (Remark("bad", "signatures", problem),)
    return (Remark("good", "signatures", f"of {persons}"),)


def _data(settings: Settings) -> Remark:
    if settings.ledger_url is not None:
        return _database(settings.ledger_url.get_secret_value())
    folder = settings.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return Remark("bad", "records", f"{settings.ledger_dir} cannot be written: nothing leaves")
    return Remark("good", "records", f"{settings.ledger_dir}")


def _database(url: str) -> Remark:
    """Whether the ledger's database answers, and whether its role may do more than it must."""
    problem = ""
    try:
        excess = excess_rights(url)
    except AuditError as error:
        problem = str(error)
    if problem:
        return Remark("bad", "records", f"{problem}: nothing leaves")
    if excess:
        return Remark("note", "records", f"PostgreSQL; its role may also {', '.join(excess)}")
    return Remark("good", "records", "PostgreSQL, by a role that may only add")


def _credentials(settings: Settings) -> tuple[Remark, ...]:
    """Whether each cloud destination has a key, and no key goes to more hosts than it must."""
    problem, keys = "", None
    try:
        keys = cloud_credentials(settings)
    except ProxyError as error:
        problem = error.public_message
    if problem:
        return (Remark("bad", "credentials", problem),)
    destinations = _destinations(settings)
    if keys is None or not destinations:
        return ()
    hosts = {host_of(destination.base_url) for destination in destinations}
    if settings.credentials_file is None:
        if len(hosts) == 1:
            return ()
        shared = f"one key for {', '.join(sorted(hosts))}"
        return (Remark("note", "credentials", f"{shared}: {PREFIX}CREDENTIALS_FILE parts them"),)
    without = [d.id for d in destinations if keys.of(d.base_url) is None]
    says = [f"keys of {settings.credentials_file}"]
    if without:
        says.append(f"none for {', '.join(without)}, where nothing is sent")
    if settings.credentials_file.stat().st_mode & 0o077:
        says.append("others on this machine may read it: chmod 600")
    return (Remark("note" if len(says) > 1 else "good", "credentials", "; ".join(says)),)


def _destinations(settings: Settings) -> Sequence[DestinationPolicy]:
    """The clouds that the policy names; none where it does not load."""
    try:
        return FilePolicySource(settings.policy_file).load().content.destinations
    except ProxyError:
        return ()


async def _local(settings: Settings) -> tuple[Remark, ...]:
    if settings.local_base_url is None:
        if is_ready(settings.model_dir):
            return (Remark("good", "local tier", f"embedded model in {settings.model_dir}"),)
        return (Remark("bad", "local tier", "no embedded model: run `ringfence model pull`"),)
    url = settings.local_base_url
    backend = OpenAIHTTPBackend.of(settings, url, settings.local_model, _PATIENCE_S)
    try:
        door = _door("local tier", url, await backend.knock())
        if door.level == "bad":
            return (door,)
        return (door, _logprobs(settings, await backend.learn()))
    finally:
        await backend.aclose()


async def _others(settings: Settings) -> tuple[Remark, ...]:
    """The endpoints of their own that vectors, sound and pictures have."""
    said = list[Remark]()
    for place in places(settings):
        what = f"local {place.name}"
        if place.base_url is not None:
            model = place.model or settings.local_model
            backend = OpenAIHTTPBackend.of(settings, place.base_url, model, _PATIENCE_S)
            status = await backend.knock()
            await backend.aclose()
            # Readiness does not hang on it, and not every server of sound or pictures has a list.
            said.append(_door(what, f"{place.base_url} ({model})", status, unlisted="note"))
        elif place.model is not None and place.name != "embedding" and not settings.local_base_url:
            needs = f"{PREFIX}{place.name.upper()}_BASE_URL"
            said.append(Remark("bad", what, f"the embedded server has no such model: {needs}"))
    return tuple(said)


def _abroad(settings: Settings) -> tuple[Remark, ...]:
    """The endpoints of the local tier that policy calls a cloud."""
    clouds = {there.id: there.base_url for there in _destinations(settings)}
    return tuple(
        Remark("bad", "at home", f"{url} is destination {cloud}: what must stay leaves")
        for url, cloud in abroad(settings, clouds)
    )


def _door(what: str, url: str, status: int, *, unlisted: Literal["note", "bad"] = "bad") -> Remark:
    """What it means that an endpoint at home listed its models with ``status``."""
    if status == 200:
        return Remark("good", what, f"{url} answers")
    if status in (401, 403):
        return Remark("bad", what, f"{url} wants another key: {_LOCAL_KEYS}")
    if status:
        return Remark(unlisted, what, f"{url} lists no models: status {status}")
    return Remark("bad", what, f"{url} does not answer")


def _logprobs(settings: Settings, found: Abilities | None) -> Remark:
    if found is None:
        return Remark("bad", "log-probabilities", "the model answers no chat completion in time")
    if found.problem:
        return Remark("bad", "log-probabilities", found.problem)
    signal = SIGNALS.get(settings.estimator)
    if signal is not None and signal.needs_top and not found.gives_top:
        return Remark("bad", "log-probabilities", f"no alternatives: {signal.name} is unknown")
    says = (
        f"beside tools: {found.with_tools}; in streams: {found.with_stream}; "
        f"alternatives: {'yes' if found.gives_top else 'no'}"
    )
    return Remark("good", "log-probabilities", says)


def _confidence(settings: Settings) -> Remark:
    problem = ""
    try:
        made = calibration_in_force(settings)
        foresight = foresight_in_force(settings, made)
        commitment = commitment_in_force(settings, made)
        threshold = threshold_of(
            settings.estimator, made.threshold if made else settings.confidence_threshold
        )
    except ProxyError as error:
        problem = error.public_message
    if problem:
        return Remark("bad", "confidence", problem)
    if isinstance(made, Chain) and (
        missing := missing_models(made.clouds, _cloud_models(settings))
    ):
        return Remark("bad", "confidence", f"no destination of the policy has {missing}")
    says = f"{settings.estimator} below {threshold:g} escalates; "
    if made is None:
        return Remark("note", "confidence", f"{says}not calibrated")
    says += f"calibrated {made.made_at[:10]}: {made.goal} ({1 - made.delta:.0%} sure), {made.id}"
    if isinstance(made, Chain):
        says += f"; then {made.in_words()}"
    if foresight is not None:
        says += f"; about {foresight.ahead:.0%} of the requests go undrafted"
    if commitment is not None:
        says += f"; about {commitment.committed:.0%} of the drafts are told early in streams"
    if is_old(made):
        return Remark("note", "confidence", f"{says}; old, make it anew")
    return Remark("good", "confidence", says)


def _plan(settings: Settings) -> tuple[Remark, ...]:
    if settings.plan_file is None:
        return ()
    problem, planner = "", None
    try:
        planner = planner_in_force(settings, load_prices(settings.prices_file))
    except ProxyError as error:
        problem = error.public_message
    if planner is None:
        return (Remark("bad", "batches", problem),)
    plan = planner.plan
    if missing := missing_models(plan.clouds, _cloud_models(settings)):
        return (Remark("bad", "batches", f"no destination of the policy has {missing}"),)
    says = f"planned for ${planner.budget_usd:g} each over {', '.join(plan.clouds)}, {plan.id}"
    return (Remark("good", "batches", says),)


def _cloud_models(settings: Settings) -> set[str]:
    try:
        destinations = FilePolicySource(settings.policy_file).load().content.destinations
    except ProxyError:
        return set()  # said of the policy already
    return {model for destination in destinations for model in destination.models}


def _costs(settings: Settings) -> Remark:
    if settings.prices_file is None:
        return Remark("note", "costs", "unknown, without a budget: no RINGFENCE_PRICES_FILE")
    problem, unpriced, too_small = "", list[str](), set[str]()
    try:
        prices = load_prices(settings.prices_file)
        budgets = load_budgets(settings.budgets_file) if settings.budgets_file else None
        for destination in FilePolicySource(settings.policy_file).load().content.destinations:
            known = [prices.find(destination.id, model) for model in destination.models]
            unpriced += [destination.id] if None in known else []
            if budgets is not None:
                too_small.update(*map(budgets.too_small, filter(None, known)))
    except ProxyError as error:
        problem = error.public_message
    if problem:
        return Remark("bad", "costs", problem)
    says = [f"prices of {settings.prices_file}"]
    says.append(f"budgets of {settings.budgets_file}" if budgets else "no budget")
    if unpriced:
        kept = ", which stay at home" if budgets else ""
        says.append(f"models without a price{kept}: {', '.join(unpriced)}")
    if too_small and budgets:
        most = f"an answer of {budgets.max_output_tokens:,} tokens (max_output_tokens)"
        says.append(f"too small for {most}, so nothing may leave: {', '.join(sorted(too_small))}")
    return Remark("note" if unpriced or too_small else "good", "costs", "; ".join(says))


def _cloud(settings: Settings) -> Remark:
    if settings.routing_mode == "shadow":
        return Remark("note", "cloud", "in the shadow: decided and recorded, nothing leaves")
    if settings.cloud_api_key is None and settings.credentials_file is None:
        return Remark("note", "cloud", "local-only: no OPENAI_API_KEY")
    destinations = _destinations(settings)
    if not destinations:
        return Remark("note", "cloud", "local-only: the policy names no destination")
    switch = EgressSwitch(settings.data_dir).state()
    if not switch.is_on and settings.data_dir.is_dir():
        return Remark("note", "cloud", f"switched off ({switch.by or 'unknown'}): nothing leaves")
    named = ", ".join(f"{d.id} ({d.base_url}, {d.region})" for d in destinations)
    return Remark("good", "cloud", f"{named}; not asked, since asking would be egress")
