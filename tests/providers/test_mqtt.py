"""MQTT: its contract and its settings; what goes through a broker and over the wire is in `mqtt/`."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.providers import mqtt
from tests.providers.samples import Contract, tools
from tests.support.mosquitto import PREFIX
from tests.support.mqtt_wire import as_broker
from tests.support.wire_http2 import ca_pem

DEVICE, OTHER = "d" * 24, "e" * 24
TOPIC = f"{PREFIX}/{DEVICE}/mdmAgent"
PASSWORD = "canary-PASSWORD-19"
WRONG: list[dict[str, Any]] = [
    {},
    {"url": "https://broker.example"},
    {"url": "mqtt://u:canary-PASSWORD-19@broker.example"},
    {"url": "mqtt://broker.example/path"},
    {"url": "mqtt://broker.example:0"},
    {"url": "mqtt://broker.example", "topicPrefix": "a/+/b"},
    {"url": "mqtt://broker.example", "topicPrefix": "a/#"},
    {"url": "mqtt://broker.example", "topicPrefix": "$SYS"},
    {"url": "mqtt://broker.example", "topicPrefix": "a//b"},
    {"url": "mqtt://broker.example", "topicPrefix": "a/"},
    {"url": "mqtt://broker.example", "password": PASSWORD},
    {"url": "mqtt://broker.example", "clientId": "a b"},
    {"url": "mqtt://broker.example", "ca": PASSWORD},
    {"url": "mqtt://broker.example", "ca": "é"},
    {"url": "mqtt://broker.example", "usernane": "x"},
]


def contract(url: str) -> Contract:
    address = url.replace("http:", "mqtt:")
    config = {"url": address, "username": "heliograph", "password": PASSWORD}
    return Contract(config, [PASSWORD], "", wrong=WRONG, bad_tokens=[TOPIC, "x"], backs_off=True, speak=as_broker)


def test_settings_as_they_are_kept() -> None:
    given = {"url": "mqtts://broker.example:8884", "username": "u", "password": "p", "topicPrefix": "a/b"}
    assert mqtt.PLUGIN.read_config(Fields(given)) == given


def test_authorities_with_a_comment_in_any_language() -> None:
    """As in the bundle of Mozilla's that curl gives out; Python's `ssl` takes ASCII alone."""
    given = {"url": "mqtts://broker.example", "ca": f"NetLock Főtanúsítvány\n=====\n{ca_pem()}"}
    assert mqtt.PLUGIN.read_config(Fields(given)) == given
    mqtt.PLUGIN.build(given, tools())


def test_settings_name_all_that_is_wrong() -> None:
    with pytest.raises(InvalidInput) as refusal:
        mqtt.PLUGIN.read_config(Fields({"url": "x", "password": PASSWORD, "topicPrefix": "#", "more": 1}))
    assert [fault.path for fault in refusal.value.fields] == ["more", "url", "username", "topicPrefix"]
    assert PASSWORD not in str(refusal.value)


def test_settings_that_decide_who_gets_the_password_are_addresses() -> None:
    assert mqtt.PLUGIN.addresses.keys() == {"url", "ca"}
