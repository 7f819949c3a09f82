"""Finding plug-ins, and building providers from the accounts that are stored now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from heliograph.domain.devices import ProviderAccount, PushTarget
from heliograph.ports.push import (
    Misconfigured,
    ProviderPlugin,
    Providers,
    PushMessage,
    PushProvider,
    Tools,
    Unavailable,
)
from heliograph.providers import ProviderRegistry, builtin, discover
from tests.providers.samples import tools
from tests.support.sealing import TestBox
from tests.support.secrets_in_logs import LogWatch

ORG, ACCOUNT = "1" * 24, "2" * 24


@dataclass
class Entry:
    """An entry point as another package would state it."""

    name: str
    thing: Any

    def load(self) -> Any:
        return self.thing


class Fake(builtin.Builtin):
    """A provider that remembers what it was built from, and whether it was closed."""

    def __init__(self, config: Mapping[str, Any], tools: Tools) -> None:
        self.key, self.closed = config["key"], False
        self.organization_id = tools.organization_id
        self.ends, self.is_closed = asyncio.Event(), asyncio.Event()  # what is under way; and the provider
        self.ends.set()

    async def close(self) -> None:
        await self.ends.wait()
        self.closed = True
        self.is_closed.set()


def plugin(kind: str = "fake") -> ProviderPlugin:
    return replace(builtin.PLUGIN, kind=kind, build=Fake, needs_account=True)


def test_ours_are_found() -> None:
    assert {"builtin", "pushy"} <= discover(outside=[]).keys()


def test_those_of_other_packages_are_found() -> None:
    assert discover([Entry("theirs", plugin())])["fake"].build is Fake


def test_two_of_a_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="entry point theirs defines the push provider pushy"):
        discover([Entry("theirs", plugin("pushy"))])


def test_an_entry_point_that_is_no_plugin_is_refused() -> None:
    with pytest.raises(TypeError, match="entry point odd is no ProviderPlugin"):
        discover([Entry("odd", Fake)])


def sealed(config: Any) -> bytes:
    return TestBox().seal(msgspec.json.encode(config))


@dataclass
class Stored:
    """What a loader would read from the database."""

    accounts: dict[str, ProviderAccount] = field(default_factory=dict)

    def put(self, **changes: Any) -> None:
        before = self.accounts.get(ACCOUNT) or ProviderAccount(ACCOUNT, ORG, "fake", "A", sealed({"key": "k1"}), 1, 1)
        self.accounts[ACCOUNT] = replace(before, **changes)

    async def load(self, organization_id: str, account_id: str) -> ProviderAccount | None:
        found = self.accounts.get(account_id)
        return found if found and found.organization_id == organization_id else None


@pytest.fixture
def stored() -> Stored:
    stored = Stored()
    stored.put()
    return stored


@pytest.fixture
async def registry(stored: Stored) -> AsyncIterator[ProviderRegistry]:
    plugins = {"fake": plugin(), "other": plugin("other"), "builtin": builtin.PLUGIN}
    registry = ProviderRegistry(plugins, stored.load, TestBox(), tools())
    yield registry
    await registry.close()


async def fake(registry: ProviderRegistry) -> Fake:
    provider = await registry.provider(ORG, "fake", ACCOUNT)
    assert isinstance(provider, Fake)
    return provider


async def test_a_provider_is_built_once_per_account(registry: ProviderRegistry) -> None:
    found = await asyncio.gather(*(fake(registry) for _ in range(5)))
    assert found[0].key == "k1"
    assert len(set(found)) == 1


async def test_a_provider_is_told_whose_it_is(registry: ProviderRegistry) -> None:
    assert (await fake(registry)).organization_id == ORG


async def test_a_changed_account_is_built_anew(stored: Stored, registry: ProviderRegistry) -> None:
    old = await fake(registry)
    stored.put(config=sealed({"key": "k2"}), updated_at=2)
    new = await fake(registry)
    async with asyncio.timeout(5):
        await old.is_closed.wait()
    assert (new.key, old.closed, new.closed) == ("k2", True, False)
    await registry.close()
    assert new.closed


@pytest.mark.parametrize(
    "changes",
    [{"provider": "other"}, {"organization_id": "9" * 24}, {"disabled_at": 5}],
)
async def test_no_provider_from_an_account_that_is_not_usable(
    stored: Stored, registry: ProviderRegistry, changes: dict[str, Any]
) -> None:
    stored.put(**changes)
    assert await registry.provider(ORG, "fake", ACCOUNT) is None


async def test_no_provider_without_an_account_or_kind(stored: Stored, registry: ProviderRegistry) -> None:
    assert await registry.provider(ORG, "fake", None) is None
    assert await registry.provider(ORG, "fake", "0" * 24) is None
    assert await registry.provider(ORG, "nope", ACCOUNT) is None
    assert registry.plugin("nope") is None
    stored.accounts.clear()
    assert await registry.provider(ORG, "fake", ACCOUNT) is None


async def test_nobody_waits_for_what_is_under_way_with_former_settings(
    stored: Stored, registry: ProviderRegistry
) -> None:
    old = await fake(registry)
    old.ends.clear()
    stored.put(config=sealed({"key": "k2"}), updated_at=2)
    async with asyncio.timeout(5):
        assert (await fake(registry)).key == "k2"
    assert not old.closed
    old.ends.set()
    await registry.close()
    assert old.closed


async def test_disabling_an_account_closes_its_provider_and_enabling_builds_another(
    stored: Stored, registry: ProviderRegistry
) -> None:
    old = await fake(registry)
    stored.put(disabled_at=5)
    assert await registry.provider(ORG, "fake", ACCOUNT) is None
    async with asyncio.timeout(5):
        await old.is_closed.wait()
    stored.put(disabled_at=None)
    assert await fake(registry) is not old


@pytest.mark.parametrize(
    "config",
    [
        b"other:key",
        TestBox().seal(b"canary6"),
        TestBox().seal(b'{"key": "canary6"'),
        sealed(["canary6"]),
        sealed({"canary6": 1}),
    ],
)
async def test_settings_that_cannot_be_used_are_what_is_wrong_and_no_secret_is_told(
    stored: Stored,
    registry: ProviderRegistry,
    config: bytes,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    watch = LogWatch(caplog, capsys)
    stored.put(config=config)
    stands_for_it = await registry.provider(ORG, "fake", ACCOUNT)
    assert stands_for_it is not None
    target = PushTarget("d" * 24, "mdmAgent", "fake", None, "token", 0)
    for answer in (await stands_for_it.send(PushMessage("p" * 24, "silent", 60), target), await stands_for_it.probe()):
        assert answer == Misconfigured("its settings cannot be used: set them again with provider update")
    for unknown in (await stands_for_it.status("r", 1.0), await stands_for_it.withdraw("r")):
        assert isinstance(unknown, Unavailable)
    assert "cannot be used" in (text := watch.written())
    assert "canary6" not in text


async def test_our_own_line_needs_no_account(registry: ProviderRegistry) -> None:
    port: Providers = registry
    line: PushProvider | None = await port.provider(ORG, "builtin", None)
    assert line is not None
    assert await registry.provider("9" * 24, "builtin", ACCOUNT) is line
