"""FCM at wire level: the HTTP v1 API that a server calls, and the devices' end of it, in process."""

from heliograph_lab.fcm.emulator import FcmEmulator
from heliograph_lab.fcm.model import Message

__all__ = ["FcmEmulator", "Message"]
