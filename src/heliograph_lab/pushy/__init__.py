"""Pushy at wire level: the REST API that a server calls, and the devices' end of it, in process."""

from heliograph_lab.pushy.emulator import PushyEmulator
from heliograph_lab.pushy.model import Push, PushyError

__all__ = ["Push", "PushyEmulator", "PushyError"]
