"""The evaluation sets as rows, split in two halves, and the common labels of their spans.

Nothing here prints a row. The sets are read where they lie; none of them is part of the project.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PII_SETS: Final = (
    "presidio_synth",
    "pii_anon_eval",
    "ambientmeta",
    "argus_fixtures",
    "datafog_corpus",
    "meddocan_es",
    "pl_pii_bench",
    "presidio_formats",
    "pupa",
)
SECRET_SETS: Final = (
    "secrets_detect_secrets",
    "secrets_gitleaks",
    "secrets_leaky_repo",
    "secrets_noseyparker",
)
NER_SETS: Final = (
    "btc",
    "wnut17",
    "wikigold",
    "sec_filings",
    "uner_en_ewt",
    "uner_de_pud",
    "uner_pt_bosque",
    "uner_sv_talbanken",
)
NEGATIVES: Final = "negatives"

#: Common labels that are not private, alone or at all (README of the sets).
NOT_PRIVATE: Final = frozenset({"NOT_PII", "NOT_PII_ALONE"})

#: Common labels that the default policy lets leave when nothing else stands beside them. A row
#: that holds only these cannot be pinned by design, so its set's labels do not allow 1.0.
SOFT: Final = frozenset(
    {"LOCATION", "ORGANIZATION", "DATE", "URL", "AGE", "JOB", "DEMOGRAPHIC", "TAX_OR_COMPANY_ID"}
)


@dataclass(frozen=True, slots=True)
class Span:
    """A labeled span; ``label`` is the common one."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Row:
    """One text of a set. ``kind`` is the class of a negative or the ``doc_label`` of a secret."""

    corpus: str
    id: str
    text: str = field(repr=False)
    spans: tuple[Span, ...]
    kind: str

    @property
    def is_development(self) -> bool:
        """Whether the row belongs to the half that rules may be tuned on (by hash of its id)."""
        digest = hashlib.sha256(f"dev:{self.corpus}:{self.id}".encode()).digest()
        return digest[0] % 2 == 0

    @property
    def private_labels(self) -> frozenset[str]:
        """The common labels in the row that count as private."""
        return frozenset(span.label for span in self.spans) - NOT_PRIVATE

    @property
    def has_hard_label(self) -> bool:
        """Whether anything is labeled that the default policy keeps home."""
        return bool(self.private_labels - SOFT)


def read_corpus(root: Path, corpus: str) -> Iterator[Row]:
    """The rows of one set, in file order."""
    labels = json.loads((root / "label_map.json").read_text(encoding="utf-8")).get(corpus, {})
    with gzip.open(root / corpus / "data.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            raw = json.loads(line)
            spans = tuple(
                Span(span["start"], span["end"], labels.get(span["label"], "OTHER_PII"))
                for span in raw["spans"]
            )
            kind = raw.get("neg_class") or raw.get("doc_label") or ""
            yield Row(corpus, str(raw["id"]), raw["text"], spans, kind)
