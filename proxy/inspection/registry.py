"""The detectors in use, in order: a list you can read."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.inspection.detector import Detector


def build_detectors(languages: Sequence[str]) -> tuple[Detector, ...]:
    """Every detector for ``languages``; loads models, so it belongs in a worker process."""
    from proxy.inspection.identifiers import IdentifiersDetector
    from proxy.inspection.names import NamesDetector
    from proxy.inspection.presidio import PresidioDetector
    from proxy.inspection.secrets import SecretsDetector
    from proxy.inspection.special import SpecialDetector

    return (
        SecretsDetector(),
        IdentifiersDetector(),
        NamesDetector(),
        SpecialDetector(),
        *(PresidioDetector(language) for language in languages),
    )
