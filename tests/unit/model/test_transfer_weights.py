from __future__ import annotations

import math

import pytest

from model.transfer import TransferWeights
from model.transfer_weights import TransferWeightsError


def test_weights_survive_a_release() -> None:
    weights = TransferWeights(donors=0.7, temperature=0.25)
    assert TransferWeights.from_dict(weights.to_dict()) == weights
    assert TransferWeights.default() == TransferWeights()


@pytest.mark.parametrize(
    "change",
    [{"donors": math.nan}, {"lean": -1.0}, {"popularity": math.inf}, {"temperature": 0.0}, {"own_labels": 1.5}],
)
def test_weights_that_would_break_scoring_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(TransferWeightsError, match=next(iter(change))):
        TransferWeights.from_dict(TransferWeights.default().to_dict() | change)


def test_a_missing_or_unknown_weight_is_refused_by_name() -> None:
    values = TransferWeights.default().to_dict()
    with pytest.raises(TransferWeightsError, match="wind"):
        TransferWeights.from_dict(values | {"wind": 1.0})
    del values["lean"]
    with pytest.raises(TransferWeightsError, match="lean"):
        TransferWeights.from_dict(values)
