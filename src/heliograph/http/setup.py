"""Set-up over HTTP: the same verbs that the command line has, bound to the caller's organization (extension)."""

from heliograph.app.callers import Caller
from heliograph.app.verbs import VERBS, Json, Verb, call_verb, may_grant
from heliograph.domain.errors import PermissionMissing
from heliograph.http.operations import Call, Handler, Operation
from heliograph.http.paths import ORGANIZATION
from heliograph.http.setup_bodies import BODIES

TAG = "Set-up"


def _handler(verb: Verb) -> Handler:
    async def handle(call: Call) -> Json:
        raw = dict(call.body.raw)
        wanted = raw.get("permissions")
        if verb.name == "key.create" and isinstance(wanted, list) and not may_grant(call.principal.permissions, wanted):
            raise PermissionMissing("a key can hand on only the permissions that it holds itself")
        return await call_verb(call.services, verb, Caller(call.organization, call.principal), raw)

    return handle


OPERATIONS = tuple(
    Operation(
        method="POST",
        path=f"{ORGANIZATION}/setup/{verb.name}",
        id=f"setup.{verb.name}",
        summary=verb.summary,
        tag=TAG,
        permission=verb.permission,
        body=BODIES[verb.name],
        answer=dict,
        handler=_handler(verb),
        extension=True,
        refusals=(5209,),
    )
    for verb in VERBS.values()
)
