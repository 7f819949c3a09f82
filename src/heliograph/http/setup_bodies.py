"""The bodies of the set-up verbs, for the OpenAPI document. What is checked is app/verbs.py and app/setup.py."""

from typing import Any

from heliograph.app.enrolling import LONGEST_S, SHORTEST_S, USAGES
from heliograph.domain.devices import PLATFORMS
from heliograph.domain.permissions import FEATURES, PERMISSIONS
from heliograph.http.operations import Body

Json = dict[str, Any]


def _text(description: str, example: str | None = None, **limits: Any) -> Json:
    shown: Json = {"type": "string", "description": description, **({} if "enum" in limits else {"maxLength": 256})}
    return shown | limits | ({} if example is None else {"examples": [example]})


def _body(verb: str, required: tuple[str, ...] = (), /, **members: Json) -> Body:
    words = "".join(part.capitalize() for part in verb.split("."))
    schema: Json = {"type": "object", "properties": members, "additionalProperties": False}
    example = {n: m["examples"][0] for n, m in members.items() if "examples" in m and (n in required or not required)}
    return Body(
        f"Setup{words}",
        schema | ({"required": list(required)} if required else {}),
        {"example": {"value": example}} if example else {},
    )


_DEVICE: Json = {
    "platform": _text("What it is.", "aosp", enum=list(PLATFORMS)),
    "name": _text("Its name for people; the serial number without it."),
    "enterprise": _text("Id or name of its enterprise; the only one of the platform without it."),
    "externalName": _text("Android: its name at Google.", pattern=r"^enterprises/[^/\s]+/devices/[^/\s]+$"),
    "serialNumber": _text("Serial number; also finds the device.", maxLength=64),
    "imei": _text("IMEI; also finds the device.", maxLength=64),
    "enrollmentSpecificId": _text("Enrollment-specific id; also finds the device.", maxLength=64),
    "state": _text("ACTIVE without it.", enum=["ACTIVE", "DISABLED", "DELETED", "PROVISIONING", "LOST"]),
    "managementMode": _text("Android: how it is managed.", enum=["DEVICE_OWNER", "PROFILE_OWNER"]),
    "apiLevel": {"type": "integer", "description": "Android: its API level, 34 for Android 14.", "minimum": 1},
    "ownership": _text("Android: whose it is.", enum=["COMPANY_OWNED", "PERSONALLY_OWNED"]),
    "providerAccount": _text("Id of the push account that reaches it; the default account without it."),
}
_ID = _text("Its id.", "65f0c0ffee0000000000e001")

BODIES = {
    "organization.create": _body(
        "organization.create",
        ("slug",),
        slug=_text("Its name in addresses.", "acme", pattern="^[a-zA-Z0-9-]{3,64}$"),
        name=_text("Its name for people; the slug without it."),
    ),
    "organization.list": _body("organization.list"),
    "organization.feature": _body(
        "organization.feature",
        ("feature", "on"),
        organization=_text("Id or slug of another organization than the key's own."),
        feature=_text("A feature of the plan.", FEATURES[0], enum=list(FEATURES)),
        on={"type": "boolean", "description": "Whether the plan has it.", "examples": [True]},
    ),
    "key.create": _body(
        "key.create",
        ("permissions",),
        name=_text("What it is for, for people; cut after 128 characters."),
        permissions={
            "type": "array",
            "items": {"type": "string", "maxLength": 256},
            "minItems": 1,
            "description": f"Names, prefixes such as mdm.android.*, or * for all of an organization: "
            f"{', '.join(PERMISSIONS)}. A key hands on only what it holds.",
            "examples": [["mdm.aosp.*"]],
        },
        expiresInSeconds={
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "How long it lasts; for ever without it.",
        },
    ),
    "key.list": _body("key.list"),
    "key.revoke": _body(
        "key.revoke",
        ("id",),
        id=_ID,
        keepCreated={"type": "boolean", "description": "Whether the keys that it made stay valid."},
    ),
    "device.add": _body("device.add", ("platform",), **_DEVICE),
    "device.import": _body(
        "device.import",
        ("devices",),
        devices={
            "type": "array",
            "maxItems": 1000,
            "description": "Devices as device.add takes them. Each has an answer of its own.",
            "items": {"type": "object", "required": ["platform"], "properties": _DEVICE, "additionalProperties": False},
            "examples": [[{"platform": "aosp", "serialNumber": "K1"}]],
        },
    ),
    "device.secret": _body("device.secret", ("id",), id=_ID),
    "device.pull": _body(
        "device.pull", ("enterprise",), enterprise=_text("Id or name of the enterprise.", "enterprises/LC0123abcd")
    ),
    "enterprise.add": _body(
        "enterprise.add",
        ("name",),
        name=_text("Its name at Google.", "enterprises/LC0123abcd", pattern="^enterprises/[A-Za-z0-9_-]{1,64}$"),
        credentials=_text("The key file (JSON) of a service account, as text. Kept encrypted.", maxLength=65_536),
        apiUrl=_text("Another address than Google's own; empty takes it back."),
        subscription=_text("Where notifications are pulled: projects/…/subscriptions/…; empty takes it back."),
        pushAudience=_text("If notifications are pushed: the audience of their tokens.", maxLength=1024),
        pushEmail=_text("The service account that those tokens name."),
    ),
    "enterprise.list": _body("enterprise.list"),
    "enterprise.connect": _body(
        "enterprise.connect",
        name=_text("One that exists at Google; without it, one is signed up.", "enterprises/LC0123abcd"),
        credentials=_text("The key file (JSON) of a service account; the stored one without it.", maxLength=65_536),
        enterpriseToken=_text("What the sign-up page ended with."),
        displayName=_text("How people see it on their devices.", maxLength=100),
        callbackUrl=_text("Where the sign-up page shall send people with the token."),
        topic=_text("Another topic than the enterprise's own, or the usual one: projects/…/topics/…"),
        subscription=_text("Another subscription than the usual one: projects/…/subscriptions/…"),
        notifications={"type": "boolean", "description": "false = results come by asking only."},
        newSignUp={"type": "boolean", "description": "Begin another sign-up than the one that is under way."},
    ),
    "enterprise.check": _body(
        "enterprise.check",
        enterprise=_text("Id or name; all without it.", "enterprises/LC0123abcd"),
        sendTest={"type": "boolean", "description": "Also publish a notification of the kind TEST."},
    ),
    "enrollmentToken.create": _body(
        "enrollmentToken.create",
        enterprise=_text("Id or name; the only one without it.", "enterprises/LC0123abcd"),
        durationSeconds={
            "type": "number",
            "minimum": SHORTEST_S,
            "maximum": LONGEST_S,
            "description": "How long it is good for; an hour without it.",
        },
        additionalData=_text("Any text; each device that comes in by it repeats it.", maxLength=1024),
        personalUsage=_text("Whose devices they are; Google decides without it.", enum=list(USAGES)),
        oneTimeOnly={"type": "boolean", "description": "Good for one device."},
        policy=_text("Name of the policy that devices get; Google's default without it."),
    ),
    "enrollmentToken.list": _body("enrollmentToken.list"),
    "provider.add": _body(
        "provider.add",
        ("provider",),
        provider=_text("Which provider.", "pushy"),
        name=_text("What it is for, for people; cut after 128 characters."),
        config={"type": "object", "description": "What the provider needs. Pushy: apiKey. Kept encrypted."},
        default={
            "type": "boolean",
            "description": "Use it where a device names no account; so is the first of a kind.",
        },
    ),
    "provider.list": _body("provider.list"),
    "provider.get": _body("provider.get", ("id",), id=_ID),
    "provider.update": _body(
        "provider.update",
        ("id",),
        id=_ID,
        name=_text("What it is for, for people; cut after 128 characters."),
        config={"type": "object", "description": "Settings to replace; null takes one back, the others stay."},
        default={"type": "boolean", "description": "Use it where a device names no account."},
        disabled={"type": "boolean", "description": "Whether pushes must not go through it."},
    ),
    "provider.test": _body("provider.test", ("id",), id=_ID),
}
