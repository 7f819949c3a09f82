"""Emulator of Google's Android Management API.

Built on the API's discovery document (Apache-2.0, see `discovery`) and on what operators of the real service report.
What Google leaves undocumented is a knob in `EmulatorSettings` or in a device's `outcome`. A method that Google
documents and this does not model answers 501 and is logged as an error: a wrong answer would do more harm.
"""

from heliograph_lab.amapi.emulator import AmapiEmulator
from heliograph_lab.amapi.errors import error_body, error_json
from heliograph_lab.amapi.settings import EmulatorSettings

__all__ = ["AmapiEmulator", "EmulatorSettings", "error_body", "error_json"]
