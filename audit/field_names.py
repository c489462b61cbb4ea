"""What each member of a record means, and what OpenTelemetry and OCSF call the same thing.

The names on the left are ours and stand in the ledger; exports and SIEM copies may use the others.
Source: OpenTelemetry semantic conventions for GenAI (status: development) and general attributes;
OCSF 1.x dictionary with the profiles ai_operation, security_control and data_classification. Empty
means that neither has a name for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Name:
    """A member's meaning and its other names."""

    meaning: str
    otel: str = ""
    ocsf: str = ""


#: Members that every record has.
FRAME: Final = {
    "v": Name("version of this format", ocsf="metadata.version"),
    "kind": Name("what the record is", "event.name", "type_name"),
    "id": Name("id of the record", ocsf="metadata.uid"),
    "seq": Name("number in its chain, from 0 without a gap", ocsf="metadata.sequence"),
    "chain": Name("the chain; one for each writer process", ocsf="attestation.chain_uid"),
    "time": Name(
        "UTC, microseconds; informs only: chain and seq are the order", "timestamp", "time"
    ),
    "mono_us": Name("monotonic clock in microseconds; shows steps of the other clock"),
    "sealed": Name("newest checkpoint that the writer knew of; -1 before the first"),
    "prev": Name("SHA-256 of the line before", ocsf="attestation.prev_event"),
    "sum": Name(
        "first 16 hex digits of the SHA-256 of the bytes before it", ocsf="attestation.fingerprint"
    ),
}

_CALLER: Final = {
    "caller": Name("who asked, from our own key table", ocsf="actor"),
    "caller.app": Name("the application", "service.name", "actor.app_name"),
    "caller.team": Name("its team", ocsf="actor.user.org.ou_name"),
    "caller.environment": Name("where it runs", "deployment.environment.name"),
    "caller.key_id": Name("the client key's id, never the key", ocsf="actor.user.credential_uid"),
}

_POLICY: Final = {
    "policy": Name("the policy in force and what it said", ocsf="policy"),
    "policy.digest": Name("digest of the policy's files", ocsf="policy.uid"),
    "policy.revision": Name("its revision", ocsf="policy.version"),
    "policy.action": Name("block, local_only, mask or allow", ocsf="action"),
    "policy.rules": Name("the rules that led there", ocsf="firewall_rule"),
    "policy.rules[].id": Name("the rule's id", ocsf="firewall_rule.uid"),
    "policy.rules[].file": Name("its file"),
    "policy.rules[].line": Name("its line"),
    "policy.shadow": Name("what a candidate would have said, where it differs; else null"),
    "policy.shadow.digest": Name("digest of the candidate's files"),
    "policy.shadow.action": Name("block, local_only, mask or allow"),
}

_INSPECTION: Final = {
    "coverage": Name("what was looked at: strings = inspected + structural + unscannable"),
    "coverage.strings": Name("strings, long numbers and blobs of the request"),
    "coverage.inspected": Name("those that detectors read"),
    "coverage.structural": Name("those that are words of the API, such as role names"),
    "coverage.unscannable": Name("reason: number of those that could not be read"),
    "languages": Name("languages found", ocsf="data_classification.language"),
    "detectors": Name("detector: version", ocsf="data_classification.classifier_details"),
    "entities": Name("what was found; counts, never text", ocsf="data_classifications"),
    "entities[].entity": Name(
        "the kind of datum", ocsf="data_classification.discovery_details.type"
    ),
    "entities[].category": Name("its family", ocsf="data_classification.category"),
    "entities[].count": Name("how often", ocsf="data_classification.discovery_details.count"),
    "entities[].max_score": Name("the best score, 0 to 1", ocsf="confidence_score"),
    "entities[].roles": Name("the same by who said it"),
    "entities[].roles[].role": Name(
        "role of the message, none outside messages", "gen_ai.input.messages.role", "ai_role"
    ),
    "entities[].roles[].count": Name("how often there"),
    "entities[].roles[].max_score": Name("the best score there"),
}

_ROUTING: Final = {
    "routing": Name("where the answer came from and why"),
    "routing.route": Name("local, cloud or refuse", ocsf="disposition"),
    "routing.reason": Name("why, as one code", ocsf="status_detail"),
    "routing.degraded": Name("policy allowed a better answer than was given"),
    "routing.estimator": Name("what measured the draft's confidence"),
    "routing.score": Name(
        "the confidence; null: unknown, or not asked for, as of a local answer that flows",
        ocsf="confidence_score",
    ),
    "routing.threshold": Name("below it a draft is escalated"),
    "routing.calibration": Name("the calibration behind the threshold"),
    "routing.reasons": Name(
        "signs of doubt, as codes; cut_short: no end could reach the threshold"
    ),
    "routing.derived_from": Name("the pinned exchange that this request continues"),
}

DECISION: Final = {
    "decision_id": Name("id of the decision", ocsf="metadata.correlation_uid"),
    "request_id": Name("id of the request, made by us", ocsf="api.request.uid"),
    "api_route": Name("the API route", "gen_ai.operation.name", "api.operation"),
    **_CALLER,
    **_POLICY,
    **_INSPECTION,
    **_ROUTING,
    "latency_ms": Name("stage: milliseconds", ocsf="duration"),
}

INTENT: Final = {
    "decision_id": Name("the decision that lets it leave", ocsf="metadata.correlation_uid"),
    "attempt": Name("number of the attempt, from 1", "http.request.resend_count"),
    "destination": Name("the destination's name in the policy", ocsf="dst_endpoint.name"),
    "provider": Name("the provider", "gen_ai.provider.name", "ai_model.ai_provider"),
    "address": Name("host", "server.address", "dst_endpoint.hostname"),
    "port": Name("port", "server.port", "dst_endpoint.port"),
    "region": Name("region", "cloud.region", "dst_endpoint.location.region"),
    "model": Name("the model asked for", "gen_ai.request.model", "ai_model.name"),
    "transfer": Name("to whom, and on which basis (GDPR Art. 30(1)(d) and (e))"),
    "transfer.recipient": Name("the recipient", ocsf="dst_endpoint.owner.org.name"),
    "transfer.country": Name("its country", ocsf="dst_endpoint.location.country"),
    "transfer.basis": Name("basis of the transfer (GDPR Art. 44 to 49)"),
    "transfer.retention": Name("how long the recipient keeps it"),
    "transfer.training": Name("whether the recipient trains on it"),
    "strings_cleared": Name("strings of the body; each was inspected or is a word of the API"),
    "masked": Name("entity: findings that were replaced; all, if the decision counts as many"),
    "body": Name("exactly what is about to be sent"),
    "body.hmac": Name("keyed digest of its bytes", ocsf="http_request.body_hash"),
    "body.bytes": Name("its size", "http.request.body.size", "http_request.body_length"),
    "vault": Name("the body, encrypted to an auditor; only where bodies are captured"),
    "vault.ref": Name("names the capture"),
    "vault.body": Name("SHA-256 of the encrypted body's file, which begins with a salt"),
    "vault.key": Name("SHA-256 of the wrapped key's file"),
}

OUTCOME: Final = {
    "intent_id": Name("the intent that it closes"),
    "decision_id": Name("the decision behind it", ocsf="metadata.correlation_uid"),
    "attempt": Name("number of the attempt", "http.request.resend_count"),
    "sent": Name("yes, no (no byte was written) or unknown", ocsf="status"),
    "status": Name("HTTP status", "http.response.status_code", "http_response.code"),
    "error_type": Name("the kind of fault, as a code", "error.type", "status_code"),
    "model": Name("the model that answered", "gen_ai.response.model", "ai_model.version"),
    "finish_reason": Name("why the answer ended", "gen_ai.response.finish_reasons", "stop_reason"),
    "provider_request_id": Name(
        "the provider's id of the request; other where it has no known form",
        "openai.request.id",
        "http_response.headers[x-request-id]",
    ),
    "prompt_tokens": Name(
        "tokens in", "gen_ai.usage.input_tokens", "message_context.prompt_tokens"
    ),
    "completion_tokens": Name(
        "tokens out", "gen_ai.usage.output_tokens", "message_context.completion_tokens"
    ),
    "cost_usd": Name("US dollars by the price table, rounded up to 1e-9; null: unknown"),
    "restored": Name("values put back into the answer of a masked request"),
    "unknown_placeholders": Name(
        "placeholders in it that the request never made, left as they are"
    ),
    "marked_tool_calls": Name("tool calls of the answer that got values back"),
    "answer_scan": Name(
        "clean, noted, redacted, blocked, unread, failed: what inspecting the answer came to; "
        "null: policy asks for no inspection"
    ),
    "answer_entities": Name("entity: number of findings in the answer that policy counts"),
    "confidence": Name(
        "how sure the answer was; null: no other model of a chain could be asked after it"
    ),
    "confidence.estimator": Name("what measured it"),
    "confidence.score": Name("the score; null: unknown", ocsf="confidence_score"),
    "confidence.threshold": Name("below it, or unknown, the next model of the chain is asked"),
    "confidence.calibration": Name("the chain behind the threshold"),
    "confidence.reasons": Name("signs of doubt, as codes"),
    "bytes_sent": Name("bytes of the body sent", "http.request.body.size", "traffic.bytes_out"),
    "bytes_received": Name("of the answer", "http.response.body.size", "traffic.bytes_in"),
    "latency_ms": Name("milliseconds", "http.client.request.duration", "http_response.latency"),
    "response": Name("the answer as it came; null where none came"),
    "response.hmac": Name("keyed digest of its bytes", ocsf="http_response.body_hash"),
    "response.bytes": Name("its size", "http.response.body.size", "http_response.body_length"),
    "vault": Name("the answer as it came, encrypted to an auditor; only where answers are kept"),
    "vault.ref": Name("names the capture, as the intent does"),
    "vault.answer": Name("SHA-256 of the answer's file; null: it could not be kept"),
}

REPLAY: Final = {
    "decision_id": Name(
        "the decision whose answer was given again; null: it never came to one",
        ocsf="metadata.correlation_uid",
    ),
    "request_id": Name("id of the repeat, made by us", ocsf="api.request.uid"),
    "api_route": Name("the API route", "gen_ai.operation.name", "api.operation"),
    **_CALLER,
    "status": Name("HTTP status of the answer", "http.response.status_code", "http_response.code"),
}

#: Members of the records that the ledger makes of itself.
OWN: Final = {
    "chain.opened": {"boot": Name("digest of the machine's boot id", ocsf="device.boot_uid")},
    "recovery": {
        "reason": Name("write_failed or adopted", ocsf="status_detail"),
        "cut_bytes": Name("bytes of a torn tail that were set aside"),
    },
    "chain.closed": {"reason": Name("stop or adopted", ocsf="status_detail")},
}

#: Members of every other record.
EVENT: Final = {"detail": Name("what happened, as codes and numbers", ocsf="unmapped")}

KINDS: Final[dict[str, dict[str, Name]]] = {
    "decision": DECISION,
    "egress.intent": INTENT,
    "egress.outcome": OUTCOME,
    "replay": REPLAY,
    **OWN,
    "event": EVENT,
}
