"""WNS at wire level: both token services and the channels that a server calls, and the devices' end, in process."""

from heliograph_lab.wns.emulator import WnsEmulator
from heliograph_lab.wns.model import Notification, WnsError

__all__ = ["Notification", "WnsEmulator", "WnsError"]
