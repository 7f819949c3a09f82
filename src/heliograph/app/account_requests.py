"""Requests about pushes, where a service's limit is for these as well. They wait for no token: pushes come first."""

from heliograph.app.services import Services
from heliograph.ports.push import Unavailable

USED_UP = Unavailable("the account's requests of this minute are used up")


async def may_ask(s: Services, kind: str, account_id: str | None, priority: int) -> bool:
    """Whether a request may go to an account now, by its provider that `Providers.provider` gave; it takes a token."""
    plugin = s.providers.plugin(kind)
    if account_id is None or s.account_quotas is None or plugin is None or not plugin.limits_all:
        return True
    return await s.account_quotas.take_now(account_id, s.providers.per_minute(account_id), priority)
