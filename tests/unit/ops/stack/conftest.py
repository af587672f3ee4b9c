"""Apache Kafka for the tests of the stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.broker_servers import apache_libs as found_libs


@pytest.fixture(scope="session")
def apache_libs() -> Path:
    """Its jars; skips the test, or fails it in CI, where they cannot be had."""
    return found_libs()
