"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no bug: pytest-timeout bounds a test as a whole.
settings.register_profile("kindred", deadline=None)
settings.load_profile("kindred")
