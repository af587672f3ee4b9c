"""The contract of the store's feed once more, on Redis from its official image."""

from __future__ import annotations

import pytest

from tests.contract.test_store_feed import *  # noqa: F403

pytestmark = pytest.mark.docker
