"""Official JavaScript libraries can be run from a test."""

from __future__ import annotations

import pytest

from tests.support.node import run_js


async def test_the_official_pushy_library_is_there() -> None:
    script = "const Pushy = require('pushy'); console.log(JSON.stringify(typeof new Pushy('key').sendPushNotification))"
    assert await run_js(script) == "function"


async def test_a_script_sees_its_arguments_and_environment() -> None:
    script = "console.log(JSON.stringify([process.argv.slice(1), process.env.WHO]))"
    assert await run_js(script, "one", env={"WHO": "two"}) == [["one"], "two"]


async def test_a_script_that_fails_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="on purpose"):
        await run_js("throw new Error('on purpose')")
