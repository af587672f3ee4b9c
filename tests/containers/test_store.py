"""The store's contract once more, on Redis from its official image."""

from __future__ import annotations

import pytest

from tests.contract.test_store import *  # noqa: F403

pytestmark = pytest.mark.docker
