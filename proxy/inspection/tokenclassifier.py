"""Any token-classification model of a local folder behind our detector contract, by transformers.

Nothing is fetched: folder, tokenizer and weights are the operator's. Labels are read in the usual
IOB form ("B-PER"); one that stands for no entity of ours is an error at start, not a silent loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from proxy.errors import InspectionError
from proxy.inspection.entities import ENTITIES, category_of
from proxy.types import Finding, Segment

#: What published models call our entities; a label that is an entity's name needs no line here.
#: Source: label sets of CoNLL-2003, WikiNEuRal, OntoNotes 5, i2b2-2014 and common PII models.
LABELS: Final = {
    "PER": "PERSON",
    "PERS": "PERSON",
    "NAME": "PERSON",
    "PATIENT": "PERSON",
    "DOCTOR": "PERSON",
    "STAFF": "PERSON",
    "GIVENNAME": "PERSON",
    "FIRSTNAME": "PERSON",
    "LASTNAME": "PERSON",
    "SURNAME": "PERSON",
    "ORG": "ORGANIZATION",
    "HOSP": "ORGANIZATION",
    "HOSPITAL": "ORGANIZATION",
    "LOC": "LOCATION",
    "GPE": "LOCATION",
    "FAC": "LOCATION",
    "CITY": "LOCATION",
    "NORP": "NRP",
    "DATE": "DATE_TIME",
    "TIME": "DATE_TIME",
    "DATEOFBIRTH": "DATE_OF_BIRTH",
    "DOB": "DATE_OF_BIRTH",
    "STREET": "STREET_ADDRESS",
    "ADDRESS": "STREET_ADDRESS",
    "ZIPCODE": "POSTAL_CODE",
    "ZIP": "POSTAL_CODE",
    "EMAIL": "EMAIL_ADDRESS",
    "PHONE": "PHONE_NUMBER",
    "TELEPHONENUM": "PHONE_NUMBER",
    "CREDITCARDNUMBER": "CREDIT_CARD",
    "ACCOUNTNUM": "ACCOUNT_NUMBER",
    "IDCARDNUM": "NATIONAL_ID",
    "IDNUM": "ID",
    "SOCIALNUM": "US_SSN",
    "SSN": "US_SSN",
    "TAXNUM": "TAX_ID",
    "DRIVERLICENSENUM": "DRIVER_LICENSE",
    "MEDICALRECORD": "MEDICAL_RECORD_NUMBER",
}

#: Labels that say that nothing, or nothing private, was found.
_NOTHING: Final = frozenset({"O", "MISC", "CARDINAL", "ORDINAL", "MONEY", "PERCENT", "QUANTITY"})

#: A weaker guess is noise.
_LOWEST_SCORE: Final = 0.5

#: Tokens that two windows of a long text share.
_STRIDE: Final = 64

#: Windows in one pass through the model.
_BATCH: Final = 16


class TokenClassificationDetector:
    """Finds what a token-classification model finds, in every window of a text."""

    name = "token_classification"

    def __init__(self, folder: Path) -> None:
        """Load the model.

        Raises:
            InspectionError: no model there, no fast tokenizer, or a label that we do not know.
        """
        import torch
        from transformers import AutoModelForTokenClassification, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        if not (folder / "config.json").is_file():
            raise InspectionError(f"There is no model in the folder {folder.name}.")
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model: Any = AutoModelForTokenClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        ).eval()
        if not self._tokenizer.is_fast:
            raise InspectionError("The token-classification model has no fast tokenizer.")
        torch.set_num_threads(1)
        self._entities = _entities(self._model.config.id2label)
        self._window = _window(self._tokenizer, self._model.config)
        self.version = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()[:12]

    def detect(self, segments: Sequence[Segment]) -> tuple[Finding, ...]:
        """Find what the model knows; see `Detector`."""
        found: dict[tuple[int, str, int, int], Finding] = {}
        for segment in segments:
            for entity, start, end, score in self._in_text(segment.text or ""):
                key = (segment.index, entity, start, end)
                if key not in found or found[key].score < score:
                    found[key] = Finding(
                        entity, category_of(entity), segment.index, start, end, score, self.name
                    )
        return tuple(found.values())

    def _in_text(self, text: str) -> Iterator[tuple[str, int, int, float]]:
        import torch

        if not text.strip():
            return
        windows = self._tokenizer(
            text,
            truncation=True,
            max_length=self._window,
            stride=min(_STRIDE, self._window // 4),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            padding=True,
            return_tensors="pt",
        )
        offsets = windows["offset_mapping"].tolist()
        special = windows["special_tokens_mask"].tolist()
        for first in range(0, len(offsets), _BATCH):
            rows = slice(first, first + _BATCH)
            with torch.inference_mode():
                logits = self._model(
                    input_ids=windows["input_ids"][rows],
                    attention_mask=windows["attention_mask"][rows],
                ).logits
            chances, labels = logits.float().softmax(-1).max(-1)
            for at in range(len(labels)):
                row = first + at
                marks = [
                    (self._entities[label] if not hidden else None, begin, end, chance)
                    for label, chance, (begin, end), hidden in zip(
                        labels[at].tolist(),
                        chances[at].tolist(),
                        offsets[row],
                        special[row],
                        strict=True,
                    )
                ]
                yield from _spans(marks)


def _spans(
    marks: Sequence[tuple[str | None, int, int, float]],
) -> Iterator[tuple[str, int, int, float]]:
    """Neighbouring tokens of one entity as one span, with the surest token's score."""
    entity, start, stop, score = None, 0, 0, 0.0
    for found, begin, end, chance in (*marks, (None, -1, -1, 0.0)):
        if found is not None and found == entity and begin - stop <= 1:
            stop, score = end, max(score, chance)
            continue
        if entity is not None and stop > start and score >= _LOWEST_SCORE:
            yield entity, start, stop, round(score, 4)
        entity, start, stop, score = found, begin, end, chance


def _entities(labels: dict[int, str]) -> dict[int, str | None]:
    """The entity of each of the model's labels, by id; None for nothing."""
    known: dict[int, str | None] = {}
    for number, label in labels.items():
        plain = label.upper()
        if plain[:2] in ("B-", "I-", "E-", "S-", "L-", "U-"):
            plain = plain[2:]
        entity = LABELS.get(plain.replace("_", ""), plain)
        if plain not in _NOTHING and entity not in ENTITIES:
            raise InspectionError(f"The model's label {label} stands for no entity.")
        known[int(number)] = None if plain in _NOTHING else entity
    return known


def _window(tokenizer: Any, config: Any) -> int:
    """Tokens that the model reads at a time: the least of what model and tokenizer say."""
    sizes = (tokenizer.model_max_length, getattr(config, "max_position_embeddings", None))
    return int(min(512, *(size for size in sizes if size)))
