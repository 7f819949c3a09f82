"""APNs at wire level: the HTTP/2 API that a sender calls, and the devices' end of it, in process."""

from heliograph_lab.apns.emulator import ApnsEmulator
from heliograph_lab.apns.errors import ApnsError
from heliograph_lab.apns.model import Key, Notification

__all__ = ["ApnsEmulator", "ApnsError", "Key", "Notification"]
