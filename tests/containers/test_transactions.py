"""What exactly-once rests on, once more on Apache Kafka from its official image."""

from __future__ import annotations

import pytest

from tests.contract.test_transactions import *  # noqa: F403

pytestmark = [pytest.mark.docker]
