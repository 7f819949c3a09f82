"""The steps of setting up at Google, or of testing it: what each came to, and what a person has to do.

Advice names what may be behind a fault, the likeliest first: Google answers the same for several causes.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NoReturn

from heliograph.ports.administration import Fault, FaultKind

MOST_SKEW_S = 300.0  # Google's tolerance is not documented; tokens that last an hour bear some minutes
WORRYING_SKEW_S = 30.0


class State(StrEnum):
    """What a step came to."""

    DONE = "done"  # by this run
    OK = "ok"  # it is as it has to be
    WARNING = "warning"
    WAITING = "waiting"  # for a person
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `advice` says what to do, where there is something to do."""

    name: str
    state: State
    detail: str = ""
    advice: str = ""

    def as_json(self) -> dict[str, Any]:
        """As answers show it."""
        return {"step": self.name, "state": self.state.value, "detail": self.detail, "advice": self.advice}


class Stopped(Exception):
    """A step failed, or waits for a person: what comes after it cannot be done."""


@dataclass(slots=True)
class Steps:
    """The steps so far, in order."""

    project: str = ""
    items: list[Step] = field(default_factory=list)

    def done(self, name: str, detail: str) -> None:
        """Carried out."""
        self.items.append(Step(name, State.DONE, detail))

    def ok(self, name: str, detail: str) -> None:
        """Nothing to do."""
        self.items.append(Step(name, State.OK, detail))

    def warn(self, name: str, detail: str, advice: str) -> None:
        """It works, or may work, and somebody should look at it."""
        self.items.append(Step(name, State.WARNING, detail, advice))

    def wait(self, name: str, detail: str, advice: str) -> NoReturn:
        """A person has to do something first."""
        self.items.append(Step(name, State.WAITING, detail, advice))
        raise Stopped

    def fail(self, name: str, detail: str, advice: str) -> NoReturn:
        """It does not work."""
        self.items.append(Step(name, State.FAILED, detail, advice))
        raise Stopped

    def fault(self, name: str, fault: Fault) -> NoReturn:
        """It does not work, for a reason of Google's."""
        self.fail(name, fault.reason, advice_on(name, fault.kind, self.project))


_AMAPI, _PUBSUB = "androidmanagement.googleapis.com", "pubsub.googleapis.com"
_PUBSUB_STEPS = ("topic", "grant", "subscription", "test notification")
_LATER = "nothing is lost: run it again later"


def advice_on(step: str, kind: FaultKind, project: str) -> str:
    """What a person does about a fault."""
    project = project or "PROJECT"
    at_pubsub = step in _PUBSUB_STEPS
    if kind is FaultKind.DISABLED:
        api = _PUBSUB if at_pubsub else _AMAPI
        return (
            f"enable the API: https://console.cloud.google.com/apis/library/{api}?project={project} or "
            f"gcloud services enable {api} --project {project}; it takes a minute or two"
        )
    if kind is FaultKind.FORBIDDEN:
        return _forbidden(step, project, at_pubsub)
    return _OTHERS[kind].format(project=project)


_OTHERS = {
    FaultKind.UNREACHABLE: (
        "is the way to Google open? Look at the network, the proxy (HTTPS_PROXY), and HELIOGRAPH_AMAPI_URL and "
        f"HELIOGRAPH_PUBSUB_URL if they are set; {_LATER}"
    ),
    FaultKind.NO_TOKEN: (
        "Google does not take the key: it was deleted, its account is disabled, or this machine's clock is wrong. "
        "Make a new key for a service account of project {project} and pass it with --credentials"
    ),
    FaultKind.QUOTA: (
        "the project's quota is used up, or it has none: wait a minute and run it again. Google gives a new project "
        "no quota before it has approved the use: apply for it, see "
        "https://developers.google.com/android/management/permissible-usage"
    ),
    FaultKind.MISSING: "somebody may have deleted it: run heliograph enterprise connect again, which makes it",
    FaultKind.EXISTS: "somebody else changed it at the same moment: run it again",
    FaultKind.REFUSED: "Google does not take the request as it is: the reason is its own",
}


def _forbidden(step: str, project: str, at_pubsub: bool) -> str:
    if at_pubsub:
        return (
            f"give the service account the role Pub/Sub Admin (roles/pubsub.admin) in project {project}, or choose "
            "--no-notifications: results then come by asking"
        )
    if step == "enterprise":
        return (
            f"either the enterprise was made with another project than {project} (only that one may use it: take a key "
            "of a service account there), or its name is wrong, or the account lacks the role Android Management User "
            "(roles/androidmanagement.user)"
        )
    return (
        f"give the service account the role Android Management User (roles/androidmanagement.user) in project "
        f"{project}, and see that Google has approved the project: "
        "https://developers.google.com/android/management/permissible-usage"
    )
