"""What the push service knows: subscriptions, messages, and its errors."""

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import base64url_decode, base64url_encode

MOST_BYTES = 4096  # RFC 8030: what every service has to take
LONGEST_LIFE = 28 * 86_400
URGENCIES = ("very-low", "low", "normal", "high")


class WebPushError(Exception):
    """A refusal. `reason` is a word for programs."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


class Subscription(msgspec.Struct, kw_only=True):
    """One device's subscription, with the device's own secrets, which no real service has.

    `vapid_key`: the only key that may send to it, as the app said when it subscribed; empty = any, or none. `ended`:
    the status that senders get, 404 or 410. `longest_life`: a TTL is shortened to so many seconds. `withdraws`:
    messages are given a name (Location) and can be deleted by it.
    """

    id: str
    owner: str
    private_key: str
    auth: str
    vapid_key: str = ""
    ended: int | None = None
    longest_life: int = LONGEST_LIFE
    withdraws: bool = True

    def key(self) -> ec.EllipticCurvePrivateKey:
        """The device's private key."""
        return ec.derive_private_key(int.from_bytes(base64url_decode(self.private_key)), ec.SECP256R1())

    def shown(self, url: str) -> str:
        """What `PushSubscription.toJSON()` gives the app, as text. `url`: where the service is."""
        point = self.key().public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        keys = {"p256dh": base64url_encode(point).decode(), "auth": self.auth}
        said = {"endpoint": f"{url}/push/{self.id}", "expirationTime": None, "keys": keys}
        return msgspec.json.encode(said).decode()


class Message(msgspec.Struct, kw_only=True):
    """One message, as it came: `body` is encrypted. Unix seconds of the lab's clock."""

    id: str
    subscription: str
    order: int
    date: int
    expiration: int
    urgency: str
    body: bytes
    topic: str | None = None
