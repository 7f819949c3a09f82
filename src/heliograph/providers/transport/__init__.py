"""The HTTP/2 client that APNs and FCM share, and the token that all connections of an APNs key share.

wire         the library: one try, and what its faults mean. The only file that imports it
streams      turns: how many requests may be in flight
client       one connection: sends that run to their end, and are repeated where nothing was processed
connections  a client for each endpoint, least recently used first to go
tokens       one provider token per APNs key
"""

from heliograph.providers.transport.connections import Connections
from heliograph.providers.transport.tokens import ProviderTokens, SigningKey, read_key
from heliograph.providers.transport.wire import Timing

__all__ = ["Connections", "ProviderTokens", "SigningKey", "Timing", "read_key"]
