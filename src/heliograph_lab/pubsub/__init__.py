"""Google's Pub/Sub as a subscriber meets it, and the publisher that notifies of what happens to devices."""

from heliograph_lab.pubsub.control import NotificationControl
from heliograph_lab.pubsub.emulator import PubsubEmulator
from heliograph_lab.pubsub.publisher import Publisher
from heliograph_lab.pubsub.settings import PublisherSettings

__all__ = ["NotificationControl", "Publisher", "PublisherSettings", "PubsubEmulator"]
