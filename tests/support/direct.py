"""HTTP clients that ask nobody else on the way."""

from __future__ import annotations

from typing import Any

import httpx2

from heliograph_agent.lines import system_authorities


def direct(base_url: str = "", **options: Any) -> httpx2.AsyncClient:
    """A client without a proxy. All share one TLS context: building one takes longer than most tests."""
    return httpx2.AsyncClient(base_url=base_url, verify=system_authorities(), trust_env=False, **options)
