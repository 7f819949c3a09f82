"""`heliograph enterprise connect`: from a key file to the first device, in steps that can be repeated."""

import re
import sys
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import typer

from heliograph.cli.enrollment import TokenOptions, present, token_body
from heliograph.cli.exits import ExitCode, Failure, usage
from heliograph.cli.operator import Json, Verbs, run_verbs
from heliograph.cli.options import Setup, literal_or_source, read_source
from heliograph.cli.output import Mode, busy, emit, note, say
from heliograph.cli.qr import check_picture
from heliograph.cli.steps import show_steps


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be connected."""

    credentials: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Key file (JSON) of a service account; - = standard input."),
    ] = None
    enterprise_token: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="What the sign-up page ended with: the token, its address, or @FILE."),
    ] = None
    display_name: Annotated[str | None, typer.Option(help="How people see it on their devices.")] = None
    callback_url: Annotated[str | None, typer.Option(help="Your own page for the end of the sign-up.")] = None
    topic: Annotated[str | None, typer.Option(help="A topic of your own: projects/…/topics/…")] = None
    subscription: Annotated[str | None, typer.Option(help="One of your own: projects/…/subscriptions/…")] = None
    notifications: Annotated[
        bool, typer.Option("--notifications/--no-notifications", help="Have Google tell of results.")
    ] = True
    new_sign_up: Annotated[
        bool, typer.Option("--new-sign-up", help="Sign up another enterprise, or begin the sign-up anew.")
    ] = False


def connect_enterprise(where: Setup, name: str | None, wish: Wish, enroll: bool, token: TokenOptions) -> None:
    """See cli.enterprise."""
    check_picture(token.qr)
    body = _body(name, wish)
    wanted = token_body(token) if enroll else None
    answer, enrollment = run_verbs(where, lambda verbs: _run(verbs, body, wanted))
    if _waits_for_a_person(answer):
        # Asked outside of the run: nothing is kept open meanwhile, and Ctrl-C ends it.
        body = {m: v for m, v in body.items() if m != "newSignUp"} | {"enterpriseToken": token_in(_asked())}
        answer, enrollment = run_verbs(where, lambda verbs: _run(verbs, body, wanted))
    emit({**answer, "enrollmentToken": enrollment}, lambda _: None)
    if not answer["connected"]:
        raise _unfinished(answer)
    if not Mode.as_json:
        say(f"Connected: {answer['enterprise']['name']}", "bold")
    if enrollment is not None:
        present(enrollment, token.qr)
        note("Enroll a device with it, then: heliograph device list")


def _body(name: str | None, wish: Wish) -> Json:
    given = None if wish.enterprise_token is None else literal_or_source(wish.enterprise_token, "--enterprise-token")
    said: Json = {
        "name": name,
        "credentials": None if wish.credentials is None else read_source(wish.credentials, "--credentials"),
        "enterpriseToken": None if given is None else token_in(given),
        "displayName": wish.display_name,
        "callbackUrl": wish.callback_url,
        "topic": wish.topic,
        "subscription": wish.subscription,
        "notifications": wish.notifications,
        "newSignUp": wish.new_sign_up or None,
    }
    return {member: value for member, value in said.items() if value is not None}


def token_in(text: str) -> str:
    """An enterprise token from what people copy: the token, or the address of the page with it. Raises Failure."""
    text = text.strip()
    found = parse_qs(urlsplit(text).query).get("enterpriseToken", []) if "://" in text else [text]
    if len(found) != 1 or re.fullmatch(r"[\x21-\x7e]{1,256}", found[0]) is None:
        raise usage("--enterprise-token: that is neither a token nor an address with enterpriseToken=… in it")
    return found[0]


async def _run(verbs: Verbs, body: Json, token: Json | None) -> tuple[Json, Json | None]:
    with busy("Asking Google"):
        answer = await verbs.call("enterprise.connect", body)
    show_steps(answer["steps"])
    if not answer["connected"] or token is None:
        return answer, None
    token = {"enterprise": answer["enterprise"]["name"], **token}
    return answer, await verbs.call("enrollmentToken.create", token)


def _waits_for_a_person(answer: Json) -> bool:
    return answer["steps"][-1]["state"] == "waiting" and not Mode.as_json and sys.stdin.isatty()


def _asked() -> str:
    sys.stderr.write("Paste the token, or the address of the page that the sign-up ended on: ")
    sys.stderr.flush()
    try:
        text = sys.stdin.readline()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise
    if not text.strip():
        raise Failure(ExitCode.REFUSED, "no token was given; run it again with --enterprise-token TOKEN")
    return text


def _unfinished(answer: Json) -> Failure:
    step = answer["steps"][-1]
    if step["state"] == "waiting":
        return Failure(ExitCode.REFUSED, "the sign-up waits for a person: open the page, then run it again")
    if not Mode.as_json:  # the step has just been shown, with what to do
        return Failure(ExitCode.REFUSED, f"not connected, because of the step marked with x: {step['step']}")
    return Failure(ExitCode.REFUSED, f"{step['step']}: {step['detail'].removesuffix('.')}. Next: {step['advice']}")
