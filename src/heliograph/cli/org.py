"""`heliograph org`: organizations."""

from typing import Annotated, Any

import typer

from heliograph.cli.exits import usage
from heliograph.cli.operator import Verbs, call_verb, run_verbs
from heliograph.cli.options import Setup, noun, spread
from heliograph.cli.output import emit, pairs, table
from heliograph.domain.permissions import FEATURES

app = noun("Organizations and the features of their plans.")


@app.command()
@spread
def create(
    where: Setup,
    slug: Annotated[str, typer.Argument(help="Its name in addresses: letters, digits, hyphens.")],
    name: Annotated[str | None, typer.Option(help="Its name for people; the slug without it.")] = None,
) -> None:
    """Make an organization."""
    body = {"slug": slug} | ({} if name is None else {"name": name})
    emit(call_verb(where, "organization.create", body), _show)


@app.command("list")
@spread
def list_organizations(where: Setup) -> None:
    """All organizations."""
    emit(
        call_verb(where, "organization.list", {}),
        lambda answer: table(
            ("SLUG", "NAME", "SWITCHED OFF", "ID"),
            [(o["slug"], o["name"], ", ".join(_off(o)), o["id"]) for o in answer["items"]],
            "There is no organization yet: heliograph org create SLUG",
        ),
    )


@app.command()
@spread
def update(
    where: Setup,
    organization: Annotated[str, typer.Argument(metavar="ORG", help="Id or slug.")],
    feature: Annotated[
        list[str], typer.Option("--feature", metavar="NAME=on|off", help="A feature of the plan. May be repeated.")
    ],
) -> None:
    """Switch features of an organization's plan on or off."""
    switches = [_switch(text) for text in feature]

    async def work(verbs: Verbs) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for name, is_on in switches:
            answer = await verbs.call("organization.feature", {"feature": name, "on": is_on}, organization)
        return answer

    emit(run_verbs(where, work), _show)


def _switch(text: str) -> tuple[str, bool]:
    name, _, value = text.partition("=")
    states = {"on": True, "off": False, "true": True, "false": False}
    if value.lower() not in states or not name:
        raise usage(f"--feature: say NAME=on or NAME=off, not {text[:64]!r}")
    if name not in FEATURES:  # before another one is switched
        raise usage(f"--feature: {name[:64]!r} is none of {', '.join(FEATURES)}")
    return name, states[value.lower()]


def _off(organization: dict[str, Any]) -> list[str]:
    return [name for name, is_on in organization["features"].items() if not is_on]


def _show(organization: dict[str, Any]) -> None:
    pairs(
        {
            "organization": organization["slug"],
            "name": organization["name"],
            "id": organization["id"],
            "switched off": ", ".join(_off(organization)),
        }
    )
