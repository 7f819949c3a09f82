"""Where the access token goes: to Microsoft's channels, and nowhere else."""

from __future__ import annotations

import pytest

from heliograph.ports.push import Rejected, RetryLater, Unavailable
from heliograph.providers.wns.client import Wns, channel_fault
from tests.providers.samples import WAKE, target
from tests.providers.test_wns import BAD_TOKENS, CHANNEL
from tests.providers.wns.rig import Service, send
from tests.support.wire import Answer, Wire

GOOD_TOKENS = [
    "https://db5.notify.windows.com/?token=AwYAAAC%2bx",
    "https://wns2-by3p.notify.windows.com/?token=A",
    "https://WNS2.Notify.Windows.com:443/w/?token=A",
    "https://db5.notify.windows.com?token=A",
]


@pytest.mark.parametrize("uri", GOOD_TOKENS)
def test_microsofts_channels(uri: str) -> None:
    assert channel_fault(uri) is None
    assert channel_fault(uri, frozenset()) is None


@pytest.mark.parametrize("uri", BAD_TOKENS)
async def test_no_token_leaves_for_another_host(wire: Service, app: Wns, uri: str) -> None:
    assert channel_fault(uri) is not None
    outcome = await app.send(WAKE, target("wns", uri))
    assert isinstance(outcome, Rejected)
    assert outcome.token_gone
    assert wire.seen == []


async def test_this_machine_is_no_exception_unless_the_account_names_it(wire: Service, app: Wns) -> None:
    async with Wire().serving() as other:
        uri = f"{other.url}/?token={CHANNEL}"
        assert channel_fault(uri) is None  # which account it is for is not known yet
        outcome = await app.send(WAKE, target("wns", uri))
        assert isinstance(outcome, Rejected)
        assert outcome.token_gone
        assert (other.seen, wire.seen) == ([], [])


async def test_a_redirect_is_not_followed(wire: Service, app: Wns) -> None:
    async with Wire().serving() as other:
        wire.pushes.append(Answer(307, b"", {"Location": f"{other.url}/?token={CHANNEL}"}))
        assert isinstance(await send(app, wire), RetryLater)
        wire.logins.append(Answer(307, b"", {"Location": other.url}))
        assert isinstance(await app.probe(), Unavailable)
        assert other.seen == []
