"""The bodies that ask for commands, described from the catalog: its types, and what each of them reads."""

from typing import Any

from heliograph.domain.catalog import ANDROID_TYPES, AOSP_TYPES, TYPES
from heliograph.domain.command_types import CommandType
from heliograph.http.body_schema import schema_read_by
from heliograph.http.operations import Body

Json = dict[str, Any]

# What a member means, and an example. Which members there are and what they may hold is the catalog's to say.
_MEANINGS: dict[str, tuple[str, Any]] = {
    "newPassword": ("The new password. Kept encrypted until the device has it, never shown.", "correct-horse-9"),
    "resetPasswordFlags": ("How the password is set.", ["LOCK_NOW"]),
    "startLostModeParams": (
        "What the lost device shows; at least one besides the organization.",
        {"lostMessage": {"defaultMessage": "Please call"}, "lostPhoneNumber": {"defaultMessage": "+1-555-0100"}},
    ),
    "stopLostModeParams": ("Nothing: may be left out.", {}),
    "clearAppsDataParams": ("Which apps.", {"packageNames": ["org.example.app"]}),
    "packageNames": ("Package names of the apps.", ["org.example.app"]),
    "addEsimParams": ("The eSIM profile.", {"activationCode": "LPA:1$rsp.example$CODE"}),
    "removeEsimParams": ("Which eSIM profile.", {"iccid": "8944500102198304826"}),
    "wipeParams": ("What is wiped besides, and what the user is told.", {}),
    "requestDeviceInfoParams": ("Which information.", {"deviceInfo": "EID"}),
    "activationCode": ("The profile's activation code. Kept encrypted, never shown.", "LPA:1$rsp.example$CODE"),
    "activationState": ("Whether the profile is activated at once; NOT_ACTIVATED without it.", "NOT_ACTIVATED"),
    "carrierName": ("A label of ours; it is not sent to Google.", "Example Mobile"),
    "iccid": ("The profile's ICCID.", "8944500102198304826"),
    "iccId": ("The same in Google's spelling.", "8944500102198304826"),
    "deviceInfo": ("What is asked for.", "EID"),
    "lostMessage": ("Shown on the lock screen.", {"defaultMessage": "Please call"}),
    "lostPhoneNumber": ("Shown, and called with a tap.", {"defaultMessage": "+1-555-0100"}),
    "lostEmailAddress": ("Shown.", "lost@example.org"),
    "lostStreetAddress": ("Shown.", {"defaultMessage": "1 Example Street"}),
    "lostOrganization": ("Shown.", {"defaultMessage": "Example Ltd"}),
    "defaultMessage": ("The text for every language that has none of its own.", "Please call"),
    "localizedMessages": ("Texts by language (BCP 47).", {"de": "Bitte anrufen"}),
    "wipeDataFlags": ("What is kept, or wiped besides.", ["WIPE_EXTERNAL_STORAGE"]),
    "wipeReason": ("What the user is told.", {"defaultMessage": "Your employer removed the work profile"}),
    "wipeReasonMessage": ("What the user is told.", "Management of this device ended"),
}


def _span(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _described(schema: Json) -> Json:
    """The schema with the meaning of each member."""
    shown = dict(schema)
    if "properties" in schema:
        shown["properties"] = {name: _member(name, member) for name, member in schema["properties"].items()}
    return shown


def _member(name: str, schema: Json) -> Json:
    meaning, _ = _MEANINGS.get(name, ("", None))
    return ({"description": meaning} if meaning else {}) | _described(schema)


def _examples(name_member: str, bodies: dict[str, Json]) -> Json:
    return {name: {"value": {name_member: name, **body}} for name, body in bodies.items()}


def _list(kinds: list[tuple[CommandType, int]]) -> str:
    return "\n".join(f"{entry.name}: {entry.summary} (valid {_span(life)} by default)" for entry, life in kinds)


def _android() -> Body:
    members: Json = {}
    examples: dict[str, Json] = {}
    kinds = [(TYPES[name], form) for name in ANDROID_TYPES if (form := TYPES[name].amapi) is not None]
    for entry, form in kinds:
        read = schema_read_by(form.parse)
        for name, member in read.get("properties", {}).items():
            shown = _member(name, member)
            bound = "required" if name in read.get("required", ()) else "optional"
            members[name] = {
                **shown,
                "description": f"{entry.name}, {bound}. {shown.get('description', '')}".strip(),
            }
        examples[entry.name] = {m: _MEANINGS[m][1] for m in form.members if m in _MEANINGS}
    types = _list([(entry, form.default_duration_s) for entry, form in kinds])
    said = f"May be left out where exactly one params member names it.\n{types}"
    schema: Json = {
        "type": "object",
        "description": "A new Android command. Members that belong to another type than `type` are refused.",
        "properties": {
            "type": {"type": "string", "enum": list(ANDROID_TYPES), "description": said},
            "duration": {
                "type": "string",
                "pattern": r"^[0-9]+(\.[0-9]{1,9})?s$",
                "description": "How long it stays valid, in seconds, such as 3600s.",
            },
            **members,
        },
    }
    return Body("EmmCommandCreate", schema, _examples("type", examples))


def _aosp() -> Body:
    kinds = [(TYPES[name], form) for name in AOSP_TYPES if (form := TYPES[name].agent) is not None]
    shapes, examples = [], {}
    for entry, form in kinds:
        read = schema_read_by(form.parse)
        shapes.append({"title": entry.name, "description": f"For {entry.name}.", **_described(read)})
        needed = {name: _MEANINGS[name][1] for name in read.get("required", ()) if name in _MEANINGS}
        examples[entry.name] = {"params": needed} if needed else {}
    schema: Json = {
        "type": "object",
        "description": "A new AOSP command.",
        "required": ["command"],
        "properties": {
            "command": {
                "type": "string",
                "enum": list(AOSP_TYPES),
                "description": _list([(entry, form.default_duration_s) for entry, form in kinds]),
            },
            "duration": {
                "type": "number",
                "minimum": 0,
                "description": "How long it stays valid, in seconds; 0 = as by default.",
            },
            "params": {
                "type": "object",
                "description": "Parameters for the agent. Besides those listed any others may be given; members that "
                "are named like secrets (password, token …) are kept encrypted and never shown.",
                "anyOf": shapes,
            },
        },
    }
    return Body("AosCommandCreate", schema, _examples("command", examples))


ANDROID_BODY = _android()
AOSP_BODY = _aosp()
