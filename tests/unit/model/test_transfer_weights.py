from __future__ import annotations

import math

import pytest

from model.signals import FIRST, SIGNALS
from model.transfer_weights import TransferWeights, TransferWeightsError


def test_weights_survive_a_release() -> None:
    weights = TransferWeights(tuple(float(number) for number in range(len(SIGNALS))), own_labels=0.25)
    assert TransferWeights.from_dict(weights.to_dict()) == weights
    default = TransferWeights.default()
    assert TransferWeights.from_dict(default.to_dict()) == default


def test_the_shipped_blend_believes_in_every_part() -> None:
    weights = TransferWeights.default().signals
    assert {part for (_, part), weight in zip(SIGNALS, weights, strict=True) if weight > 0} == {0, 1, 2, 3}


def test_as_many_weights_as_signals_are_needed() -> None:
    with pytest.raises(TransferWeightsError, match="signals"):
        TransferWeights((1.0,))


@pytest.mark.parametrize(
    "change",
    [{"donors.sharp": math.nan}, {"item_text.near": -1.0}, {"popularity.fresh": math.inf}, {"own_labels": 1.5}],
)
def test_weights_that_would_break_scoring_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(TransferWeightsError, match=next(iter(change))):
        TransferWeights.from_dict(TransferWeights.default().to_dict() | change)


def test_a_missing_or_unknown_weight_is_refused_by_name() -> None:
    values = TransferWeights.default().to_dict()
    with pytest.raises(TransferWeightsError, match="wind"):
        TransferWeights.from_dict(values | {"wind": 1.0})
    del values["donors.knn"]
    with pytest.raises(TransferWeightsError, match=r"donors\.knn"):
        TransferWeights.from_dict(values)


def test_a_release_from_before_a_signal_was_there_gives_it_no_weight() -> None:
    values = TransferWeights.default().to_dict()
    later = [name for name, _ in SIGNALS[FIRST:]]
    for name in later:
        del values[name]
    read = TransferWeights.from_dict(values).to_dict()
    assert {read[name] for name in later} == {0.0}
    assert values.items() <= read.items()
