"""How steps of setting up and testing are shown to people."""

from typing import Any

from heliograph.cli.output import Mode, say_folded

_MARKS = {"done": ("+", "green"), "ok": ("=", ""), "warning": ("!", "yellow"), "waiting": ("?", "yellow")}
_FAILED = ("x", "red")


def show_steps(steps: list[dict[str, Any]]) -> None:
    """A line for each step, and below it what to do about it."""
    if Mode.as_json:
        return
    width = max((len(step["step"]) for step in steps), default=0)
    for step in steps:
        mark, style = _MARKS.get(step["state"], _FAILED)
        say_folded(f"{mark} {step['step']:<{width}}  ", step["detail"], style)
        if step["advice"]:
            say_folded(f"  {'':<{width}}  -> ", step["advice"], style)
