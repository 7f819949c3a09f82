"""What the tests of the HTTP edge share."""

from __future__ import annotations

import pytest

from tests.http.routes import Known, known_in
from tests.support.demo import Demo


@pytest.fixture(scope="session")
def known(demo: Demo) -> Known:
    """Records that requests can name."""
    return known_in(demo)
