"""Which free parameters are secrets is read from their names."""

import pytest

from heliograph.domain.command_types import free_params, is_secret_member, without_secrets
from heliograph.domain.fields import Fields


@pytest.mark.parametrize(
    "name",
    [
        "newPassword", "new_password", "NEW-PASSWORD", "psk", "wifiPsk", "passphrase", "clientSecret", "client secret",
        "access_token", "refreshToken", "tokens", "apiKey", "api-key", "key", "preSharedKey", "PIN", "unlock_pin",
        "pinCode", "otp", "simPuk", "credentials", "Authorization", "activationCode", "passwords",
    ],
)  # fmt: skip
def test_these_are_secrets(name: str) -> None:
    assert is_secret_member(name)
    assert free_params(Fields({"a": [{name: "canary", "b": 1}]})).public == {"a": [{"b": 1}]}


@pytest.mark.parametrize(
    "name", ["packageName", "phoneNumber", "publicKey", "pinned", "keyboard", "message", "ssid", ""]
)
def test_these_are_not(name: str) -> None:
    assert without_secrets({name: 1}) == {name: 1}
