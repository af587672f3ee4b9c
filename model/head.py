"""Interest(x) = f(NN(x)): what stands between the encoder's vector and the interest vector.

The built-in releases have the identity. Knows nothing of files; a release says which head it has.
"""

from __future__ import annotations

from collections.abc import Callable

from model.encoder.base import Vectors

Head = Callable[[Vectors], Vectors]
"""(N, D) unit vectors in the space → (N, D) interest vectors, rows of zeros to rows of zeros."""


def identity(vectors: Vectors) -> Vectors:
    """The vectors themselves."""
    return vectors
