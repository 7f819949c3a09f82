"""Two records of one device become one, in one transaction: what the other had belongs to the one that stays.

Whoever has read something of the other record finds it changed (its version, its claim's token) and reads it again,
so nothing goes on under an id that is no more.
"""

# ruff: noqa: S608 - made of the names of our own conditions

from heliograph.domain.devices import Device
from heliograph.store.commands import LIVE
from heliograph.store.database import Dialect, Statement, statement

# The other gives up what only one record may have; not when it has changed since it was read.
_GIVE_UP = """
UPDATE devices SET external_name = NULL, agent_secret_hash = NULL, updated_at = updated_at + 1
WHERE organization_id = $1 AND id = $2 AND updated_at = $3
AND (agent_secret_hash = $4 OR (agent_secret_hash IS NULL AND CAST($4 AS BYTEA) IS NULL)) RETURNING id
"""
_SEEN = """
UPDATE devices SET last_seen_at = (SELECT max(o.last_seen_at) FROM devices o WHERE o.organization_id = $1
    AND o.id IN ($2, $3)) WHERE organization_id = $1 AND id = $2
"""
_NAMES = "UPDATE device_names SET device_id = $2 WHERE organization_id = $1 AND device_id = $3"
# Its commands still wait their turn in lanes, `issue:DEVICE:TYPE…`; an id has 24 characters.
_LANES = """
UPDATE outbox SET lane = 'issue:' || CAST($2 AS TEXT) || substr(lane, 31)
WHERE organization_id = $1 AND lane IS NOT NULL AND {among_keys}
"""
_KEYS = f"SELECT 'issue:' || id FROM commands WHERE organization_id = $1 AND device_id = $3 AND {LIVE}"
# One look at the device's operations is owed, as early and urgent as either was; a look that is under way is void.
_BOTH = "SELECT {} FROM outbox b WHERE b.organization_id = $1 AND b.key IN ($2, $3)"
_LOOK_SOON = f"""
UPDATE outbox SET due_at = ({_BOTH.format("min(b.due_at)")}), priority = ({_BOTH.format("min(b.priority)")}),
    lease_until = 0, token = token + 1
WHERE organization_id = $1 AND key = $2 AND EXISTS (SELECT 1 FROM outbox WHERE organization_id = $1 AND key = $3)
"""
_LOOK_ONCE = """
DELETE FROM outbox WHERE organization_id = $1 AND key = $3
AND EXISTS (SELECT 1 FROM outbox WHERE organization_id = $1 AND key = $2)
"""
_LOOK_THERE = """
UPDATE outbox SET key = $2, subject_id = $4, lease_until = 0, token = token + 1
WHERE organization_id = $1 AND key = $3
"""
_COMMANDS = "UPDATE commands SET device_id = $2, version = version + 1 WHERE organization_id = $1 AND device_id = $3"
_PUSHES = "UPDATE pushes SET device_id = $2, version = version + 1 WHERE organization_id = $1 AND device_id = $3"
# Of an app's addresses at one provider the newest stays.
_OLDER_TARGETS = """
DELETE FROM push_targets WHERE organization_id = $1 AND device_id IN ($2, $3) AND EXISTS (
    SELECT 1 FROM push_targets n WHERE n.organization_id = $1 AND n.device_id IN ($2, $3)
    AND n.device_id <> push_targets.device_id AND n.app = push_targets.app AND n.provider = push_targets.provider
    AND (n.registered_at, n.device_id) > (push_targets.registered_at, push_targets.device_id))
"""
_TARGETS = "UPDATE push_targets SET device_id = $2 WHERE organization_id = $1 AND device_id = $3"
_REMOVE = "DELETE FROM devices WHERE organization_id = $1 AND id = $2"


def give_up(other: Device, secret_hash: bytes | None) -> Statement:
    """Take the name and the agent's secret from a record. It, and the secret, must be as they were read."""
    return statement(_GIVE_UP, other.organization_id, other.id, other.updated_at, secret_hash, must=True)


def join(dialect: Dialect, kept: Device, other: Device) -> list[Statement]:
    """Give to a record all that another has, and remove that one."""
    pair = (kept.organization_id, kept.id, other.id)
    looks = (kept.organization_id, f"look_up:{kept.id}", f"look_up:{other.id}")
    return [
        statement(_SEEN, *pair),
        statement(_NAMES, *pair),
        statement(_LANES.format(among_keys=dialect.among_found("key", _KEYS)), *pair),
        statement(_LOOK_SOON, *looks),
        statement(_LOOK_ONCE, *looks),
        statement(_LOOK_THERE, *looks, kept.id),
        statement(_COMMANDS, *pair),
        statement(_PUSHES, *pair),
        statement(_OLDER_TARGETS, *pair),
        statement(_TARGETS, *pair),
        statement(_REMOVE, other.organization_id, other.id),
    ]
