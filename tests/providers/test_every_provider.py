"""What holds for every provider, found as the server finds it. A new one needs its `test_<kind>.py`, or this fails."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.ports.push import (
    Accepted,
    CannotTell,
    CannotWithdraw,
    Forgotten,
    Outcome,
    Pending,
    ProbeAnswer,
    ProviderPlugin,
    PushProvider,
    RetryLater,
    StatusAnswer,
    Unavailable,
    WithdrawAnswer,
    Withdrawn,
    Works,
)
from heliograph.providers import discover
from tests.providers.samples import MESSAGES, SILENT, WAKE, Contract, target, tools
from tests.support.secrets_in_logs import LogWatch
from tests.support.wire import Action, Answer, Raw, Seen, Wire, json_answer
from tests.support.wire_http2 import Http2Wire

PLUGINS = discover()
BODIES = (
    b"",
    b"null",
    b"{}",
    b"[]",
    b"<html>",
    b"\xff\xfe\x00",
    b'{"success":true',
    b'{"success":true,"id":{},"info":[],"push":[],"code":[],"error":{}}',
    b'{"code":"RATE_LIMIT","error":null,"reason":5,"name":[]}',
    b"[" * 100_000,
)
CUTS = (b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"\x00\x00\x00garbage\r\n\r\n", b"HTTP/1.1 103 Early\r\n\r\n")

NOWHERE = "http://127.0.0.1:1"

every_plugin = pytest.mark.parametrize("kind", sorted(PLUGINS))
STATUSES = (*range(400, 432), 451, 499, *range(500, 512), 599)
SUCCESSES = range(200, 205)
PAGE = (
    b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"  # of a captive portal, or a proxy that leads elsewhere
)
PAGES = (
    *(Answer(status, PAGE, {"Content-Type": "text/html; charset=utf-8"}) for status in (*range(200, 204), 206, 299)),
    *(Answer(status, b"\r\n " + PAGE) for status in range(200, 204)),  # without its type
    *(Answer(status, PAGE, {"Content-Type": "text/html"}, missing=9) for status in range(200, 204)),  # cut
    *(Answer(200, body) for body in (b"<html>", b"OK", b"\xff\xfe\x00")),
)


def module_of(kind: str) -> str:
    """The module of a provider's own tests: here, and that of a plug-in outside on the path."""
    ours = f"tests.providers.test_{kind}"
    return ours if importlib.util.find_spec(ours) is not None else f"test_{kind}"


def contract_of(kind: str, url: str) -> Contract:
    given: Contract = importlib.import_module(module_of(kind)).contract(url)
    return given


@pytest.fixture
async def wire(kind: str) -> AsyncIterator[Wire]:
    """The service, which answers as it is told."""
    async with (Http2Wire() if contract_of(kind, NOWHERE).over_http2 else Wire()).serving() as wire:
        yield wire


# Whether requests for access tokens succeed, so that the others are made at all.
with_and_without_tokens = pytest.mark.parametrize(
    ("kind", "granted"),
    [(kind, False) for kind in sorted(PLUGINS)]
    + [(kind, True) for kind in sorted(PLUGINS) if contract_of(kind, NOWHERE).grants],
)


def grant(wire: Wire, contract: Contract) -> None:
    """Give access tokens, and answer `wire.otherwise` to everything else."""

    def answer(seen: Seen) -> Action:
        given = contract.grants.get(seen.path)
        return wire.otherwise if given is None else Answer(200, given)

    wire.handler = answer


@pytest.fixture
async def contract(kind: str, wire: Wire) -> AsyncIterator[Contract]:
    contract = contract_of(kind, wire.url)
    if not contract.tokens:
        yield contract
        return
    async with Wire().serving() as tokens:
        tokens.otherwise = json_answer({"access_token": "canaryACCESS", "expires_in": 3600})
        config = contract.config | {contract.tokens: tokens.url}
        yield dataclasses.replace(contract, config=config, secrets=[*contract.secrets, "canaryACCESS"])


def build(plugin: ProviderPlugin, contract: Contract) -> PushProvider:
    # Through JSON and back, as it lies in the database.
    stored = msgspec.json.encode(plugin.read_config(Fields(contract.config)))
    return plugin.build(msgspec.json.decode(stored), tools())


@every_plugin
def test_it_has_tests_of_its_own(kind: str) -> None:
    assert importlib.util.find_spec(module_of(kind)) is not None
    assert isinstance(contract_of(kind, NOWHERE), Contract)


@every_plugin
def test_what_it_states_is_sound(kind: str) -> None:
    plugin = PLUGINS[kind]
    assert plugin.kind == kind
    assert plugin.max_life_s > 0
    assert [plugin.check(message) for message in MESSAGES] == [None] * len(MESSAGES)
    assert plugin.check(dataclasses.replace(WAKE, data={"x": "y" * 1_000_000}))


@every_plugin
@pytest.mark.parametrize("unit", ["ע", "ش", "\u200f", "🛰", "\u202bשלום مرحبا\u202c\u200f"])
def test_sizes_are_those_of_the_bytes_whatever_the_script(kind: str, unit: str) -> None:
    def most(text: str) -> int:
        low, high = 0, 1_000_000
        while high - low > 1:
            middle = (low + high) // 2
            fits = PLUGINS[kind].check(dataclasses.replace(SILENT, data={"x": text * middle})) is None
            low, high = (middle, high) if fits else (low, middle)
        return low

    assert most(unit) == most("y") // len(unit.encode())


@every_plugin
def test_wrong_settings_are_refused_without_repeating_them(kind: str) -> None:
    contract = contract_of(kind, NOWHERE)
    assert contract.wrong
    for settings in contract.wrong:
        with pytest.raises(InvalidInput) as refusal:
            PLUGINS[kind].read_config(Fields(settings))
        assert [secret for secret in contract.secrets if secret in str(refusal.value)] == []


@every_plugin
def test_what_is_no_address_of_one_device_is_told(kind: str) -> None:
    plugin, contract = PLUGINS[kind], contract_of(kind, NOWHERE)
    token_kind = contract.token_kind or next(iter(plugin.tokens))

    def is_address(token: str) -> bool:
        fits = re.fullmatch(plugin.tokens[token_kind], token) is not None
        return fits and plugin.check_token(token_kind, token) is None

    assert is_address(contract.token)
    # Where the address follows from the device, an agent names none.
    bad = [*contract.bad_tokens, *(["with space", "x" * 10_000, "", "nul\0"] if contract.token else [])]
    assert [token for token in bad if is_address(token)] == []


async def use(provider: PushProvider, kind: str, contract: Contract) -> list[Any]:
    outcomes: list[Any] = [await provider.send(message, target(kind, contract.token)) for message in MESSAGES]
    return [
        *outcomes,
        await provider.status(contract.reference, 30),
        await provider.withdraw(contract.reference),
        await provider.probe(),
    ]


async def ready_for_more(provider: PushProvider, contract: Contract, answer: Action) -> PushProvider | None:
    """The provider, or None where a back-off of its own could keep the next answer from it: then it is closed."""
    if not contract.backs_off and not isinstance(answer, Raw):
        return provider
    await provider.close()
    return None


@with_and_without_tokens
async def test_whatever_the_service_answers_is_a_value_without_secrets(
    kind: str,
    granted: bool,
    wire: Wire,
    contract: Contract,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    watch = LogWatch(caplog, capsys)
    contract.speak(wire)
    if granted:
        grant(wire, contract)
    echo = " ".join(contract.secrets).encode()
    answers: list[Action] = [Answer(status, BODIES[status % len(BODIES)]) for status in range(200, 600, 13)]
    answers += [Answer(status, body) for status in (200, 400, 410, 429, 500) for body in BODIES]
    answers += [Answer(status, body) for status in SUCCESSES for body in (b"", b"\xff\xfe\x00", PAGE)]
    answers += [Answer(400, b'{"code":"X","error":"' + echo + b'","reason":"' + echo + b'"}'), Answer(500, echo)]
    answers += [Raw(cut) for cut in CUTS]
    answers += [Answer(429, b"", {"Retry-After": value}) for value in ("3", "-1", "x", "Sun, 01 Mar 2026 12:00:30 GMT")]
    seen: list[Any] = []
    provider: PushProvider | None = None
    for answer in answers if contract.is_remote else answers[:1]:
        wire.otherwise = answer
        provider = provider or build(PLUGINS[kind], contract)
        *sent, status, withdrawn, probed = await use(provider, kind, contract)
        provider = await ready_for_more(provider, contract, answer)
        assert all(isinstance(outcome, Outcome) for outcome in sent), answer
        assert isinstance(status, StatusAnswer), answer
        assert isinstance(withdrawn, WithdrawAnswer), answer
        assert isinstance(probed, ProbeAnswer), answer
        seen += [*sent, status, withdrawn, probed]
    watch.assert_none_of(contract.secrets, seen)


@with_and_without_tokens
async def test_nothing_but_the_services_own_word_is_a_success(
    kind: str, granted: bool, wire: Wire, contract: Contract
) -> None:
    if not contract.is_remote:
        return
    contract.speak(wire)
    if granted:
        grant(wire, contract)
    probes_anybody = not contract.probes_nobody and not (granted and contract.grants)
    provider: PushProvider | None = None
    failures: list[Action] = [Answer(status, b"<html>") for status in STATUSES]
    for answer in [*failures, *PAGES, *(Raw(cut) for cut in CUTS)]:
        wire.otherwise = answer
        provider = provider or build(PLUGINS[kind], contract)
        *sent, status, withdrawn, probed = await use(provider, kind, contract)
        provider = await ready_for_more(provider, contract, answer)
        assert not any(isinstance(outcome, Accepted) for outcome in sent), answer
        assert not isinstance(status, Pending), answer
        assert not isinstance(withdrawn, Withdrawn), answer
        assert not (probes_anybody and isinstance(probed, Works)), answer


@every_plugin
async def test_without_the_service_it_says_try_again(kind: str, wire: Wire, contract: Contract) -> None:
    if not contract.is_remote:
        return
    provider = build(PLUGINS[kind], contract)
    contract.speak(wire)
    wire.otherwise = Raw(b"")
    *sent, status, withdrawn, probed = await use(provider, kind, contract)
    assert all(isinstance(outcome, RetryLater) for outcome in sent)
    assert isinstance(status, Unavailable | Forgotten | CannotTell)
    assert isinstance(withdrawn, Unavailable | CannotWithdraw)
    assert contract.probes_nobody or isinstance(probed, Unavailable)
    await provider.close()
    # After close it still answers, and still with values.
    assert isinstance(await provider.send(WAKE, target(kind, contract.token)), RetryLater)
