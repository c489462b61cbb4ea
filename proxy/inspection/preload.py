"""What the fork server imports first: the detectors that the proxy named in its environment.

The one module that works at import time. Nobody else may import it: the variable is handed down to
every process that a proxy starts, and one that has no use for detectors would load them.
"""

from __future__ import annotations

import os

from proxy.inspection.loading import CONFIG_VARIABLE, detectors_for
from proxy.inspection.registry import DetectorConfig

if named := os.environ.get(CONFIG_VARIABLE):
    detectors_for(DetectorConfig.from_json(named))
