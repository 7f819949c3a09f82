"""`heliograph key`: API keys."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from heliograph.cli.operator import Json, Verbs, call_verb, run_verbs
from heliograph.cli.options import Setup, noun, seconds, spread
from heliograph.cli.output import ago, emit, moment, note, pairs, table
from heliograph.domain.errors import NotFound

app = noun("API keys.")


@app.command()
@spread
def create(
    where: Setup,
    permission: Annotated[
        list[str],
        typer.Option(
            "--permission",
            metavar="NAME",
            help="What it may do: a name (mdm.aosp.command.create), a prefix (mdm.android.*) or *. May be repeated, "
            "and hold several with commas between.",
        ),
    ],
    name: Annotated[str, typer.Option(help="What it is for, for people.")] = "",
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long it lasts: 30d, 12h, 3600s; for ever without it.")
    ] = None,
) -> None:
    """Make an API key. Its secret is shown now and never again."""
    wanted = [item.strip() for text in permission for item in text.split(",") if item.strip()]
    body: Json = {"name": name, "permissions": wanted}
    if expires is not None:
        body["expiresInSeconds"] = seconds(expires, "--expires")
    emit(call_verb(where, "key.create", body), _show_created)


@app.command("list")
@spread
def list_keys(where: Setup) -> None:
    """The keys of an organization, without their secrets."""
    emit(
        call_verb(where, "key.list", {}),
        lambda answer: table(
            ("NAME", "BEGINS WITH", "STATE", "MADE", "EXPIRES", "ID", "PERMISSIONS"),
            [_row(key) for key in answer["items"]],
            "There is no key yet: heliograph key create",
        ),
    )


@app.command()
@spread
def revoke(
    where: Setup,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id.")],
    keep_created: Annotated[bool, typer.Option("--keep-created", help="Leave the keys that it made.")] = False,
) -> None:
    """Revoke a key, and the keys that were made with it, at once and for good."""

    body: Json = {"id": key_id} | ({"keepCreated": True} if keep_created else {})

    async def work(verbs: Verbs) -> Json:
        organizations = await verbs.organizations()
        for organization in organizations:
            try:
                return await verbs.call("key.revoke", body, str(organization["id"]))
            except NotFound:
                continue  # ids are unique, so at most one organization has it
        raise NotFound(f"no API key has the id {key_id[:64]!r}; see: heliograph key list")

    emit(run_verbs(where, work), lambda answer: pairs({"revoked": answer["id"]}))


def _state(key: Json) -> str:
    ends = moment(key["expiresAt"])
    if key["revokedAt"] is not None:
        return "revoked"
    return "expired" if ends is not None and ends <= datetime.now(UTC) else "valid"


def _row(key: dict[str, Any]) -> tuple[Any, ...]:
    return (
        key["name"],
        key["prefix"] + "…",
        _state(key),
        ago(key["createdAt"]),
        ago(key["expiresAt"]),
        key["id"],
        ", ".join(key["permissions"]),
    )


def _show_created(key: dict[str, Any]) -> None:
    pairs(
        {
            "id": key["id"],
            "name": key["name"],
            "permissions": ", ".join(key["permissions"]),
            "expires": ago(key["expiresAt"]),
            "secret": key["secret"],
        }
    )
    note("Keep the secret: it is not shown again.")
