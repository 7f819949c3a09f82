"""Which way a push goes, and which one next when nothing is heard.

Our own line comes first where the agent registered it: an agent that holds it answers within a second. Then the
platform's push service, then what relays besides. What is left is the next check-in: an agent that comes to us is
offered whatever it has not acknowledged. The agent drops what it has seen, so a push that went two ways shows once.
"""

from collections.abc import Collection, Iterator, Sequence

from heliograph.app.services import SECOND, Services
from heliograph.domain.deliveries import Push, PushRung
from heliograph.domain.devices import Device, ProviderAccount, PushTarget
from heliograph.domain.record import record
from heliograph.ports.push import ProviderPlugin, PushMessage, Route
from heliograph.ports.store import UnitOfWork

OUR_LINE = "builtin"
PATIENCE_S = {Route.LINE: 1.0, Route.VENDOR: 60.0, Route.RELAY: 60.0}
"""How long an acknowledgement is waited for before the next way is tried."""
_DEFAULT, _NO_ACCOUNT = 2, 3


@record
class ChosenTarget:
    """An address, with the account whose credentials reach it and the longest life its provider offers.

    `in_order`: no fault is known of the account, nor has its service asked for a long wait.
    """

    provider: str
    account_id: str | None
    max_life_s: int
    in_order: bool = True


async def routes_to(s: Services, work: UnitOfWork, device: Device, targets: Sequence[PushTarget]) -> list[ChosenTarget]:
    """The ways to an app by its addresses, newest first, in the order in which they are tried; one for each provider.

    Among the services of one rank the account decides (contract decision 29): the device's own, else the address's
    own, else the organization's default of its kind. Of equals the newest address. An account that is out of order
    comes after all that are not, unless it is time to find out whether it works again. That there is no way at all is
    not said before the store was asked: an account may just have been made, or enabled.
    """
    alive = [(target, s.providers.plugin(target.provider)) for target in targets if target.dead_at is None]
    usable = [(target, plugin) for target, plugin in alive if plugin is not None]
    found = _ranked(s, device, usable, (await work.setup.known_accounts()).values())
    if usable and not found:
        found = _ranked(s, device, usable, (await work.setup.known_accounts(anew=True)).values())
    return found


def _ranked(
    s: Services,
    device: Device,
    targets: Sequence[tuple[PushTarget, ProviderPlugin]],
    accounts: Collection[ProviderAccount],
) -> list[ChosenTarget]:
    now = s.clock.now()
    ranked: dict[str, tuple[tuple[bool, int, int], ChosenTarget]] = {}
    for target, plugin in targets:
        if not plugin.needs_account:
            place = (False, plugin.route, _NO_ACCOUNT)
            ranked[plugin.kind] = (place, ChosenTarget(target.provider, None, plugin.max_life_s))
            continue
        level, account = min(_accounts_for(device, target, accounts), key=lambda found: found[0], default=(0, None))
        if account is not None:
            in_order = account.fault is None and not s.health.rests(account.id, now)
            comes_last = not in_order and not s.health.may_try(account.id, now)
            chosen = ChosenTarget(target.provider, account.id, plugin.max_life_s, in_order)
            ranked[plugin.kind] = ((comes_last, plugin.route, level), chosen)
    return [chosen for _, chosen in sorted(ranked.values(), key=lambda found: found[0])]


async def next_route(s: Services, work: UnitOfWork, push: Push) -> ChosenTarget | None:
    """The first way that a push has not gone yet, of those that can take it."""
    return next((route for route in await _open_routes(s, work, push) if _is_fresh(push, route)), None)


async def way_back(s: Services, work: UnitOfWork, push: Push) -> ChosenTarget | None:
    """A way that a push has gone in vain and that may take it yet: it was only busy, and is in order."""
    return _again(push, await _open_routes(s, work, push)) if _gone_in_vain(push) else None


async def way_round(s: Services, work: UnitOfWork, push: Push) -> ChosenTarget | None:
    """A way in order for a push whose own takes nothing: one that it has not gone yet, else one that was only busy."""
    routes = [route for route in await _open_routes(s, work, push) if route.in_order]
    return next((route for route in routes if _is_fresh(push, route)), None) or _again(push, routes)


def _again(push: Push, routes: Sequence[ChosenTarget]) -> ChosenTarget | None:
    """Of the ways that it has gone in vain the one that it left first, so that each has its turn."""
    in_order = {route.provider: route for route in routes if route.in_order}
    return next((in_order[provider] for provider in _gone_in_vain(push) if provider in in_order), None)


def _is_fresh(push: Push, route: ChosenTarget) -> bool:
    """Whether a push has not gone a way yet. That of what nobody has taken is a new one when its address is reached
    through another account by now: somebody has put that in the place of the one that the push was accepted for.
    """
    if push.rung is PushRung.QUEUED and route.provider == push.provider:
        return route.account_id != push.account_id
    return route.provider not in {push.provider, *(leg.provider for leg in push.legs or ())}


def _gone_in_vain(push: Push) -> list[str]:
    """The providers that have neither taken nor refused it, in the order in which it left them."""
    legs = push.legs or ()
    taken = {leg.provider for leg in legs if leg.reference is not None}
    in_vain = (leg.provider for leg in legs if leg.reference is None and not leg.refused)
    return [provider for provider in in_vain if provider not in {push.provider, *taken}]


async def _open_routes(s: Services, work: UnitOfWork, push: Push) -> list[ChosenTarget]:
    """The ways on which a push can go as it is: some take less than the one it was accepted for."""
    found = await work.devices.find_with_targets(None, push.device_id, push.app)
    routes = [] if found is None else await routes_to(s, work, *found)
    return able_to_take(s, routes, message_of(s, push))


def able_to_take(s: Services, routes: Sequence[ChosenTarget], message: PushMessage) -> list[ChosenTarget]:
    """Those of the ways that can take a message as it is."""
    plugins = [s.providers.plugin(route.provider) for route in routes]
    return [route for route, plugin in zip(routes, plugins, strict=True) if plugin and plugin.check(message) is None]


def message_of(s: Services, push: Push) -> PushMessage:
    """A push as its provider gets it."""
    return PushMessage(
        id=push.id,
        kind=push.kind,
        life_s=max(1, (push.expires_at - s.clock.now()) // SECOND),
        command_id=push.command_id,
        title=push.message.get("title"),
        body=push.message.get("body"),
        data=push.message.get("data"),
    )


def patience_s(s: Services, provider: str) -> float:
    """How long an acknowledgement is waited for on the way through a provider."""
    plugin = s.providers.plugin(provider)
    return PATIENCE_S[Route.RELAY if plugin is None else plugin.route]


def _accounts_for(
    device: Device, target: PushTarget, accounts: Collection[ProviderAccount]
) -> Iterator[tuple[int, ProviderAccount]]:
    """The accounts that can reach an address, each with its level; 0 comes first."""
    for account in accounts:
        if account.provider != target.provider or account.disabled_at is not None:
            continue
        for level, chosen in enumerate((device.provider_account_id, target.account_id)):
            if account.id == chosen:
                yield level, account
        if account.is_default:
            yield _DEFAULT, account
