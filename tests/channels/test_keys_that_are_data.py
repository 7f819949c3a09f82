"""What Google keys by package or language is no secret, whatever that is called. All else of such a name is one."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.channels.amapi_answers import usable_operation
from heliograph_lab.amapi.discovery import SCHEMAS
from tests.channels.google import operation

Path = tuple[str, ...]
# Names of packages and languages that look like those of secrets.
KEYS = ("com.onepassword.android", "com.x.tokenkeeper", "com.wire.spin", "com.x.otp", "com.x.publickey", "passwords")


def maps_of(schema: str, path: Path = (), seen: Path = ()) -> list[tuple[Path, Any]]:
    """Where a resource of Google's holds a map, and an entry of it."""
    found: list[tuple[Path, Any]] = []
    for name, member in SCHEMAS[schema].properties.items():
        if member.additional_properties is not None:
            found.append(((*path, name), {"clearingResult": "SUCCESS"} if member.additional_properties.ref else "x"))
        inner = member.ref or (member.items.ref if member.items else None)
        if inner is not None and inner not in seen:
            found += maps_of(inner, (*path, name), (*seen, inner))
    return found


MAPS = maps_of("Command", ("metadata",))


def holding(path: Path, value: Any) -> dict[str, Any]:
    """An operation with a value at a path of its metadata."""
    for name in reversed(path):
        value = {name: value}
    return operation() | dict(value)


def test_all_maps_are_tried_here() -> None:
    assert {path[-1] for path, _ in MAPS} == {"results", "localizedMessages"}


@pytest.mark.parametrize(("path", "entry"), MAPS)
@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_is_data_is_never_taken_for_a_secret(path: Path, entry: Any, key: str) -> None:
    raw = holding(path, {key: entry, "a.b": entry})
    assert usable_operation(raw) == raw


@pytest.mark.parametrize(("path", "entry"), MAPS)
def test_what_is_no_entry_of_such_a_map_is_kept_out_still(path: Path, entry: Any) -> None:
    stranger = {"value": "canary"} if isinstance(entry, str) else "canary"
    beside = {"a.b": entry if isinstance(entry, str) else {**entry, "token": "canary"}}
    raw = holding(path, {**beside, "password": stranger})
    raw["metadata"] |= {"newPassword": "canary", "addEsimParams": {"activationCode": "canary"}}
    raw["results"] = {"apiKey": entry if isinstance(entry, str) else {**entry, "note": "canary"}}
    raw["error"] = {"details": [{"clearAppsDataStatus": {"results": {"secret": {"value": "canary"}}}}]}
    found = usable_operation(raw)
    assert found is not None
    assert "canary" not in str(found)
    assert found["results"] == {}


@pytest.mark.parametrize("path", [path for path, entry in MAPS if entry == "x"])
def test_a_text_beside_such_a_key_repeats_no_secret_of_the_command(path: Path) -> None:
    found = usable_operation(holding(path, {"x-pin": "set to canary"}), ["canary"])
    assert found == holding(path, {"x-pin": "set to …"})
