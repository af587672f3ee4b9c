"""The learned numbers of transfer, as they stand in a release. Knows nothing of how they are used or fitted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Self

from model.errors import ModelError
from model.signals import FIRST, SIGNALS

OWN_LABELS: Final = "own_labels"
DEFAULT: Final = "default_blend.json"
NAMES: Final = tuple(name for name, _ in SIGNALS)


class TransferWeightsError(ModelError, ValueError):
    """Weights of a release that cannot be used; the text names the entry."""


@dataclass(frozen=True, slots=True)
class TransferWeights:
    """signals: one a signal, in the order of SIGNALS, 0 or more. own_labels: share of the newcomer's own labels in the
    label scores."""

    signals: tuple[float, ...]
    own_labels: float = 0.5

    def __post_init__(self) -> None:
        if len(self.signals) != len(NAMES):
            raise TransferWeightsError(f"{len(self.signals)} transfer weights; there are {len(NAMES)} signals")
        for name, value in self.to_dict().items():
            if not (math.isfinite(value) and value >= 0):
                raise TransferWeightsError(f"transfer weight {name} is {value}; it must be a finite number, 0 or more")
        if self.own_labels > 1:
            raise TransferWeightsError(f"transfer weight own_labels is {self.own_labels}; it is a share, at most 1")

    @classmethod
    def default(cls) -> Self:
        """The blend that is shipped: `make default-blend` fits it jointly over several data sets."""
        return cls.from_dict(json.loads(files("model").joinpath(DEFAULT).read_text(encoding="utf-8")))

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Self:
        """The opposite of `to_dict`. A release that was written before a signal was there gives it no weight. Raises
        TransferWeightsError for any other missing name, an unknown one or a value out of range: half a set of weights
        is worse than none."""
        missing = sorted({*NAMES[:FIRST], OWN_LABELS} - values.keys())
        unknown = sorted(values.keys() - {*NAMES, OWN_LABELS})
        if missing or unknown:
            raise TransferWeightsError(f"transfer weights: missing {missing}, unknown {unknown}")
        return cls(tuple(float(values.get(name, 0.0)) for name in NAMES), float(values[OWN_LABELS]))

    def to_dict(self) -> dict[str, float]:
        return {**dict(zip(NAMES, self.signals, strict=True)), OWN_LABELS: self.own_labels}
