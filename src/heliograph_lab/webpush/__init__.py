"""A Web Push service at wire level (RFC 8030), and the devices that have subscribed there, in process."""

from heliograph_lab.webpush.emulator import Delivery, WebPushEmulator
from heliograph_lab.webpush.model import WebPushError

__all__ = ["Delivery", "WebPushEmulator", "WebPushError"]
