"""Google's Pub/Sub as a subscriber and an operator's set-up meet it."""

from heliograph_lab.pubsub.emulator import PubsubEmulator

__all__ = ["PubsubEmulator"]
