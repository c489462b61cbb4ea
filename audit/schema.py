"""The published JSON Schema of the records, made from their data classes.

It is closed: a member that it does not name is no record of ours, and a string is a code, an id, a
digest or a configured name, never a sentence.
"""

from __future__ import annotations

import json
import types
from dataclasses import fields, is_dataclass
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from audit.chain import VERSION
from audit.field_names import EVENT, FRAME, KINDS, OWN, Name
from audit.record import (
    LONG_NUMBER,
    MAX_ITEMS,
    NAME,
    OWN_ID,
    PROVIDER_ID,
    DecisionRecord,
    IntentRecord,
    OutcomeRecord,
    ReplayRecord,
)

Schema = dict[str, Any]

ID: Final = "https://ringfence.dev/schema/record-v1.json"

_TIME: Final = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z"
_DIGEST: Final = {
    "type": "object",
    "properties": {
        "hmac": {"type": "string", "pattern": r"^hk-\d{4}-\d{2}:[0-9a-f]{64}$"},
        "bytes": {"type": "integer", "minimum": 0},
    },
    "required": ["hmac", "bytes"],
    "additionalProperties": False,
}
_SHA256: Final = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_CAPTURE: Final = {
    "type": "object",
    "properties": {
        "ref": {"type": "string", "pattern": "^cap_[0-9a-f]{28}$"},
        "body": dict(_SHA256),
        "key": dict(_SHA256),
    },
    "required": ["ref", "body", "key"],
    "additionalProperties": False,
}
_ANSWER: Final = {
    "type": "object",
    "properties": {
        "ref": {"type": "string", "pattern": "^cap_[0-9a-f]{28}$"},
        "answer": {"anyOf": [dict(_SHA256), {"type": "null"}]},
    },
    "required": ["ref", "answer"],
    "additionalProperties": False,
}
_SCALARS: Final[dict[type, Schema]] = {
    str: {"$ref": "#/$defs/name"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    types.NoneType: {"type": "null"},
}

#: Outcomes that recovery writes for a lost writer have these alone.
_OUTCOME_REQUIRED: Final = ("intent_id", "decision_id", "attempt", "sent", "error_type")


def record_schema() -> Schema:
    """The JSON Schema (2020-12) of every record."""
    kinds = {
        "decision": _of_class(DecisionRecord),
        "egress.intent": _of_class(IntentRecord),
        "egress.outcome": _of_class(OutcomeRecord),
        "replay": _of_class(ReplayRecord),
        **{kind: _of_names(members) for kind, members in OWN.items()},
    }
    kinds["egress.intent"]["properties"]["body"] = dict(_DIGEST)
    kinds["egress.intent"]["required"].append("body")
    kinds["egress.intent"]["properties"]["vault"] = dict(_CAPTURE)
    provider_id = {"type": "string", "pattern": f"^(?:other|{PROVIDER_ID.pattern})$"}
    kinds["egress.outcome"]["properties"]["provider_request_id"] = {
        "anyOf": [provider_id, {"type": "null"}]
    }
    kinds["egress.outcome"]["properties"]["response"] = {"anyOf": [_DIGEST, {"type": "null"}]}
    kinds["egress.outcome"]["properties"]["vault"] = dict(_ANSWER)
    kinds["egress.outcome"]["required"] = list(_OUTCOME_REQUIRED)
    kinds["recovery"]["required"] = ["reason"]
    shapes = {kind: _framed(shape, {"const": kind}) for kind, shape in kinds.items()}
    other: Schema = {"type": "string", "pattern": r"^[a-z][a-z_]*(\.[a-z_]+)?$"}
    shapes["event"] = _framed(_event(), {**other, "not": {"enum": list(kinds)}})
    for kind, shape in shapes.items():
        _describe(shape, {**FRAME, **KINDS[kind]}, "")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "A record of Ringfence's ledger",
        "description": "One line of the ledger. Verification hashes the line's bytes as stored.",
        "oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in shapes],
        "$defs": {"name": _name(), **shapes},
    }


def schema_text() -> str:
    """The schema as it is published."""
    return json.dumps(record_schema(), indent=2, ensure_ascii=False) + "\n"


def _name() -> Schema:
    """A name or code, or an id or digest of ours; see `audit.record.name_or_other`."""
    return {
        "type": "string",
        "anyOf": [
            {"pattern": f"^(?!.*{LONG_NUMBER.pattern})(?:{NAME.pattern})$"},
            {"pattern": f"^(?:{OWN_ID.pattern})$"},
        ],
    }


def _framed(shape: Schema, kind: Schema) -> Schema:
    number = {"type": "integer", "minimum": 0}
    frame: Schema = {
        "v": {"const": VERSION},
        "kind": kind,
        "id": {"type": "string", "pattern": "^[a-z]+_[0-9a-z_]{1,64}$"},
        "seq": number,
        "chain": {"type": "string", "pattern": "^c_[0-9a-f]{28}$"},
        "time": {"type": "string", "pattern": f"^{_TIME}$"},
        "mono_us": number,
        "sealed": {"type": "integer", "minimum": -1},
        "prev": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    }
    total = {"sum": {"type": "string", "pattern": "^[0-9a-f]{16}$"}}
    return {
        "type": "object",
        "properties": {**frame, **shape["properties"], **total},
        "required": [*frame, *shape["required"], *total],
        "additionalProperties": False,
    }


def _event() -> Schema:
    scalar = {"anyOf": [_SCALARS[str], {"type": ["number", "boolean"]}]}
    detail = {"type": "object", "propertyNames": _SCALARS[str], "additionalProperties": scalar}
    return {"properties": {"detail": detail}, "required": list(EVENT)}


def _of_names(members: dict[str, Name]) -> Schema:
    """A shape whose members are codes, but for numbers of bytes."""
    kinds = {name: int if name.endswith("_bytes") else str for name in members}
    return {
        "properties": {name: dict(_SCALARS[kind]) for name, kind in kinds.items()},
        "required": list(members),
    }


def _of_class(record: type) -> Schema:
    hints = get_type_hints(record)
    properties = {field.name: _of_type(hints[field.name]) for field in fields(record)}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _of_type(hint: Any) -> Schema:
    if is_dataclass(hint) and isinstance(hint, type):
        return _of_class(hint)
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return {"anyOf": [_of_type(argument) for argument in arguments]}
    if get_origin(hint) is tuple and get_origin(arguments[0]) is tuple:  # pairs become an object
        value = _of_type(get_args(arguments[0])[1])
        return {"type": "object", "propertyNames": _SCALARS[str], "additionalProperties": value}
    if get_origin(hint) is tuple:
        cut = {"type": "string", "pattern": r"^cut:\d+$"}
        items = {"anyOf": [_of_type(arguments[0]), cut]}
        return {"type": "array", "items": items, "maxItems": MAX_ITEMS + 1}
    return dict(_SCALARS[hint])


def _describe(shape: Schema, names: dict[str, Name], at: str) -> None:
    """Put meanings and other names beside the members of ``shape``, those within them too."""
    for name, member in shape.get("properties", {}).items():
        path = f"{at}{name}"
        if path not in names:
            continue
        known = names[path]
        member["description"] = known.meaning
        member |= {"x-opentelemetry": known.otel} if known.otel else {}
        member |= {"x-ocsf": known.ocsf} if known.ocsf else {}
        for inner in (member, *member.get("anyOf", [])):
            _describe(inner, names, f"{path}.")
        for item in member.get("items", {}).get("anyOf", []):
            _describe(item, names, f"{path}[].")
