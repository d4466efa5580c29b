"""OpenVINO without its telemetry.

Importing OpenVINO imports a package that reports usage to its makers. Where that package cannot be
imported, OpenVINO uses a stand-in of its own that does nothing; here it never can. Every module
of radcds takes OpenVINO from this one.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402 - only now

__all__ = ["openvino"]
