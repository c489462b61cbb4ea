"""Tables that an operator writes: strict YAML into a strict model, or a refusal that says where."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from proxy.errors import PolicyError, SettingsError
from proxy.policy.reader import read_document

M = TypeVar("M", bound=BaseModel)


def load_table(path: Path, model: type[M], setting: str) -> M:
    """Read ``path``, which ``setting`` names, as a ``model``.

    Raises:
        SettingsError: the file cannot be read, or holds something else; says where.
    """
    try:
        document = read_document(path)
        return model.model_validate(document.members)
    except PolicyError as error:
        fault = error.public_message
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        line, column = document.where(first["loc"])
        fault = f"{path}:{line}:{column}: {first['msg']}"
    raise SettingsError(f"{setting}: {fault}")
