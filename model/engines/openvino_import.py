"""OpenVINO, imported so that it reports nothing, and without its converter.

openvino-telemetry, which OpenVINO requires, reports every import and every conversion to Google Analytics. What calls it does
without where it is missing; so it is made to be missing, before OpenVINO is imported. The converter takes longer to import
than all else, and only ``model/export.py`` needs it.
"""

from __future__ import annotations

import sys

CONVERTER = "openvino.tools.ovc"

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
if _first := CONVERTER not in sys.modules:
    sys.modules[CONVERTER] = None  # type: ignore[assignment]
import openvino

if _first:
    del sys.modules[CONVERTER]

__all__ = ["openvino"]
