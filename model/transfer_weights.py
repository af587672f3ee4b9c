"""The learned numbers of transfer, as they stand in a release. Knows nothing of how they are used or fitted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Self

from model.errors import ModelError


class TransferWeightsError(ModelError, ValueError):
    """Weights of a release that cannot be used; the text names the entry."""


@dataclass(frozen=True, slots=True)
class TransferWeights:
    """The defaults were searched over four development sets together, each weighing the same; what that is worth, and
    what it is not, stands in docs/benchmarks.md.

    donors, shared_items, item_text, popularity: weight of each part's score, which is scaled to its query's maximum.
    temperature: of the softmax over donors, in similarity above the background (1 = identical).
    donor_recency, shared_recency: a user's n-th most recent item counts n ** -recency.
    shared_shrink: users added to the number who share an item, so that a single one does not decide.
    text_power: exponent of an item text's similarity.
    donor_freshness, shared_freshness, text_freshness: exponent of an item's decayed popularity within each part.
    popularity_power: exponent of the decayed popularity in its own part.
    strength_half: donors' similarity above the background at which they are trusted by half.
    lean: how much more popularity weighs where donors are not trusted at all (1 = twice as much).
    own_labels: share of the newcomer's own labels in the label scores.
    """

    donors: float = 0.55
    shared_items: float = 1.2
    item_text: float = 0.5
    popularity: float = 0.3
    temperature: float = 0.5
    donor_recency: float = 1.0
    shared_recency: float = 1.6
    shared_shrink: float = 0.1
    text_power: float = 1.0
    donor_freshness: float = 0.4
    shared_freshness: float = 1.4
    text_freshness: float = 0.4
    popularity_power: float = 1.5
    strength_half: float = 0.15
    lean: float = 1.1
    own_labels: float = 0.5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise TransferWeightsError(f"transfer weight {name} is {value}; it must be a finite number, 0 or more")
        if self.temperature < 1e-3 or self.strength_half < 1e-3:
            raise TransferWeightsError("transfer weights temperature and strength_half must be at least 0.001")
        if self.own_labels > 1:
            raise TransferWeightsError(f"transfer weight own_labels is {self.own_labels}; it is a share, at most 1")

    @classmethod
    def default(cls) -> Self:
        return cls()

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Self:
        """The opposite of `to_dict`. Raises TransferWeightsError for a missing or unknown name or a value out of range:
        half a set of weights is worse than none."""
        names = {f.name for f in fields(cls)}
        if names != values.keys():
            missing, unknown = sorted(names - values.keys()), sorted(values.keys() - names)
            raise TransferWeightsError(f"transfer weights: missing {missing}, unknown {unknown}")
        return cls(**{name: float(value) for name, value in values.items()})

    def to_dict(self) -> dict[str, float]:
        return asdict(self)
