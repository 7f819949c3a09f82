"""Who calls: API keys for people and programs, device secrets for agents. Both are 256-bit random, stored hashed."""

import hashlib
import secrets
from dataclasses import dataclass, field

from heliograph.app.services import SECOND, Services
from heliograph.domain.devices import ApiKey, Device, Principal
from heliograph.domain.errors import Unauthenticated
from heliograph.ports.clock import Clock

KEY_PREFIX = "hlg_"
AGENT_PREFIX = "hla_"
KEYS_TOPIC = "keys"
# Of a device whose agent must prove itself anew: its secret was replaced, or it was deleted.
AGENT_TOPIC = "access:{}"
_CACHE_US = 5 * SECOND  # other processes are told of a revocation at once; this bounds a lost message
_CACHE_SIZE = 20_000


def new_api_key() -> str:
    """A new API key, to be shown once."""
    return KEY_PREFIX + secrets.token_hex(32)


def new_agent_secret() -> str:
    """A new device secret, to be handed to the device's agent once."""
    return AGENT_PREFIX + secrets.token_hex(32)


def hash_secret(secret: str) -> bytes:
    """What is stored of a random secret. A slow hash buys nothing for 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def agent_access_changed(s: Services, device_id: str) -> None:
    """Tell every process that a device's agent must prove itself anew: open lines end."""
    s.wakeups.notify([KEYS_TOPIC])
    s.wakeups.notify([AGENT_TOPIC.format(device_id)])


@dataclass(slots=True)
class Access:
    """Resolves credentials, with a short cache that a revocation empties."""

    services: Services
    _principals: dict[bytes, tuple[int, Principal, ApiKey]] = field(default_factory=dict)
    _devices: dict[bytes, tuple[int, Device]] = field(default_factory=dict)

    def forget(self) -> None:
        """Drop everything cached: a key, a plan or a device changed."""
        # New ones: a read that began before the change writes what it finds to the old.
        self._principals, self._devices = {}, {}

    async def principal(self, token: str) -> Principal:
        """The holder of an API key; raises Unauthenticated for an unknown, expired or revoked one."""
        key_hash = hash_secret(token)
        now = self.services.clock.now()
        cache = self._principals
        known = cache.get(key_hash)
        if known is None or now - known[0] > _CACHE_US:
            found = await self.services.store.directory.principal(key_hash)
            if found is None:
                raise Unauthenticated
            if len(cache) >= _CACHE_SIZE:
                cache.clear()
            known = cache[key_hash] = (now, *found)
        _, principal, key = known
        if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
            raise Unauthenticated
        return principal

    async def device(self, secret: str) -> Device:
        """The device that an agent's secret belongs to; raises Unauthenticated."""
        return await self.device_of(hash_secret(secret))

    async def device_of(self, secret_hash: bytes) -> Device:
        """`device` by the hash of the secret, which a line that stays open keeps instead of the secret."""
        now = self.services.clock.now()
        cache = self._devices
        known = cache.get(secret_hash)
        if known is None or now - known[0] > _CACHE_US:
            device = await self.services.store.directory.device_by_secret(secret_hash)
            if device is None or device.state == "DELETED":
                raise Unauthenticated
            if len(cache) >= _CACHE_SIZE:
                cache.clear()
            known = cache[secret_hash] = (now, device)
        return known[1]


@dataclass(slots=True)
class Bucket:
    """A token bucket: `rate_per_s` tokens a second, at most `burst`."""

    rate_per_s: float
    burst: float
    tokens: float
    at: int

    def take(self, now: int) -> float:
        """0.0 when a token was there, else the seconds until one is."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) / SECOND * self.rate_per_s)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / self.rate_per_s


@dataclass(slots=True)
class RateLimiter:
    """Requests per minute of each caller (an API key, a device); 0 = no limit. Held per process."""

    per_minute: int
    _buckets: dict[str, Bucket] = field(default_factory=dict)

    def wait_s(self, caller: str, clock: Clock) -> float:
        """0.0 when the request may pass, else the seconds to wait."""
        if self.per_minute <= 0:
            return 0.0
        now = clock.now()
        bucket = self._buckets.get(caller)
        if bucket is None:
            if len(self._buckets) >= _CACHE_SIZE:
                self._buckets.clear()
            burst = max(1.0, self.per_minute / 6)
            bucket = self._buckets[caller] = Bucket(self.per_minute / 60, burst, burst, now)
        return bucket.take(now)
