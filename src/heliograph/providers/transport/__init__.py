"""The HTTP/2 client that APNs and FCM share, and the token that all connections of an APNs key share.

wire         the library: one try, and what its faults mean. The only file that imports it
streams      turns: how many requests may be in flight
client       one connection: sends that run to their end, and are repeated where nothing was processed
connections  a client for each endpoint, least recently used first to go
tokens       one provider token per APNs key
certificates client certificates of APNs
server       the settings that name another server
answers      what an exchange means for a push
"""

from heliograph.providers.transport.answers import after_s, json_of, unanswered
from heliograph.providers.transport.certificates import ClientCertificate, read_certificate
from heliograph.providers.transport.connections import Connections
from heliograph.providers.transport.server import HELP as SERVER_HELP
from heliograph.providers.transport.server import endpoint, read_server
from heliograph.providers.transport.tokens import ProviderTokens, SigningKey, read_key
from heliograph.providers.transport.wire import Timing

__all__ = [
    "SERVER_HELP",
    "ClientCertificate",
    "Connections",
    "ProviderTokens",
    "SigningKey",
    "Timing",
    "after_s",
    "endpoint",
    "json_of",
    "read_certificate",
    "read_key",
    "read_server",
    "unanswered",
]
