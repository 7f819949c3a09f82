"""Private keys that people give us, as PEM."""

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

# An RSA key of 4096 bits has 3,272. Reading one proves that its factors are primes, and holds up everybody meanwhile:
# a fifth of a second with 4096 bits, 13 s with 8,700, two minutes with 19,600.
MAX_KEY_CHARACTERS = 3_400


def load_key(pem: bytes) -> PrivateKeyTypes:
    """The key of a PEM block. Raises ValueError, TypeError where it wants a password, UnsupportedAlgorithm."""
    if len(pem) > MAX_KEY_CHARACTERS:
        raise ValueError("is larger than an RSA key of 4096 bits")
    return load_pem_private_key(pem, None)
