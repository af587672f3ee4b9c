"""The built-in head."""

from __future__ import annotations

import numpy as np

from model.head import identity


def test_the_built_in_interest_is_the_vector_itself() -> None:
    vectors = np.eye(3, dtype=np.float32)
    assert identity(vectors) is vectors
