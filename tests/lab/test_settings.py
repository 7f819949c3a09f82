"""The emulators' settings: changed at run time, kept, and refused when they cannot be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heliograph_lab.amapi import EmulatorSettings
from heliograph_lab.kernel import Kernel
from heliograph_lab.settings import SettingsError, described


async def test_a_change_is_in_force_at_once_and_survives(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    live = kernel.settings.open("amapi", EmulatorSettings())
    await kernel.settings.change({"amapi": {"expiryCode": None, "cancelFinished": "501"}})
    await kernel.settings.change({"amapi": {"purgeAfter": 5, "cancelFinished": "ok"}})
    assert (live.expiry_code, live.cancel_finished, live.purge_after) == (None, "ok", 5)
    assert kernel.settings.shown()["amapi"]["purgeAfter"] == 5
    kernel.close()
    kernel = Kernel(tmp_path)
    # A default of a later version applies to what was never changed, and to what was changed back.
    live = kernel.settings.open("amapi", EmulatorSettings(cancel_finished="404", drop_delay=7))
    assert (live.expiry_code, live.purge_after, live.cancel_finished, live.drop_delay) == (None, 5, "404", 7)
    await kernel.settings.reset()
    assert (live.expiry_code, live.purge_after, live.cancel_finished, live.drop_delay) == (4, None, "404", 7)
    kernel.close()


async def test_what_an_older_version_has_left_is_passed_over(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    await kernel.state.put("lab.settings", "amapi", {"gone": 1, "dropDelay": 3})
    assert kernel.settings.open("amapi", EmulatorSettings()).drop_delay == 3
    kernel.close()


@pytest.mark.parametrize(
    ("patch", "word"),
    [
        ([], "body"),
        ({"amapi": 1}, "body"),
        ({"smtp": {}}, "smtp"),
        ({"amapi": {"zz": 1}}, "zz"),
        ({"amapi": {"expiryCode": "4"}}, "expiryCode"),
        ({"amapi": {"expiryCode": 17}}, "expiryCode"),
        ({"amapi": {"cancelFinished": "500"}}, "cancelFinished"),
        ({"amapi": {"purgeAfter": -1}}, "purgeAfter"),
        ({"amapi": {"purgeAfter": 1e12}}, "purgeAfter"),
        ({"amapi": {"quotaLimit": -1}}, "quotaLimit"),
        ({"amapi": {"quotaWindow": 0}}, "quotaWindow"),
        ({"amapi": {"unmanagedStatus": 200}}, "unmanagedStatus"),
        ({"amapi": {"devicesPage": 0}}, "devicesPage"),
        ({"amapi": {"enterprises": ["LC1"]}}, "enterprises"),
        ({"amapi": {"enterprises": "enterprises/LC1"}}, "enterprises"),
        ({"amapi": {"dropDelay": 9, "requireToken": 1}}, "requireToken"),
    ],
)
async def test_a_bad_change_changes_nothing(kernel: Kernel, patch: Any, word: str) -> None:
    live = kernel.settings.open("amapi", EmulatorSettings())
    with pytest.raises(SettingsError, match=word):
        await kernel.settings.change(patch)
    assert live == EmulatorSettings()
    assert kernel.state.get("lab.settings", "amapi") is None


def test_every_setting_is_described() -> None:
    rows = described(EmulatorSettings)
    assert len(rows) == len(EmulatorSettings.__struct_fields__)
    assert all(text for _, _, text in rows)
    assert rows[0][:2] == ("expiryCode", 4)
