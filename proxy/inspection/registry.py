"""The detectors in use, in order: a list you can read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.inspection.detector import Detector
from proxy.inspection.files import Ocr

if TYPE_CHECKING:  # no detector process needs it
    from proxy.settings import Settings


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """Which models find names: spaCy's of ``languages``, and a token-classification model's.

    ``token_model`` is a local folder; with it, languages without a spaCy model may be named too.
    ``ocr`` says what is done with pictures.
    """

    languages: tuple[str, ...]
    token_model: Path | None = None
    ocr: Ocr = Ocr.OFF

    @classmethod
    def of(cls, settings: Settings) -> DetectorConfig:
        """What ``settings`` ask for."""
        return cls(settings.languages, settings.token_model_dir, Ocr(settings.ocr))

    def to_json(self) -> str:
        """As one line, for the environment of the detector processes."""
        folder = str(self.token_model) if self.token_model else None
        return json.dumps([self.languages, folder, self.ocr])

    @classmethod
    def from_json(cls, line: str) -> DetectorConfig:
        """The inverse of `to_json`."""
        languages, folder, ocr = json.loads(line)
        return cls(tuple(languages), Path(folder) if folder else None, Ocr(ocr))


def build_detectors(config: DetectorConfig) -> tuple[Detector, ...]:
    """Every detector; loads models, so it belongs in a worker process.

    Raises:
        ImportError: no model for the names of one of the languages is installed.
        InspectionError: the folder of the token-classification model holds none that fits.
    """
    return tuple(_detectors(config))


def _detectors(config: DetectorConfig) -> Iterator[Detector]:
    from proxy.inspection.identifiers import IdentifiersDetector
    from proxy.inspection.names import NamesDetector
    from proxy.inspection.presidio import PresidioDetector, has_model
    from proxy.inspection.secrets import SecretsDetector
    from proxy.inspection.special import SpecialDetector

    yield SecretsDetector()
    yield IdentifiersDetector()
    yield NamesDetector()
    yield SpecialDetector()
    for place, language in enumerate(config.languages):
        if place == 0 or config.token_model is None or has_model(language):
            yield PresidioDetector(language)
    if config.token_model is not None:
        from proxy.inspection.tokenclassifier import TokenClassificationDetector

        yield TokenClassificationDetector(config.token_model)
