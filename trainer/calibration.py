"""Does confidence mean what it says? Answers by how sure they were of themselves, and how often they hit. Pure.

(Reliability curve and expected calibration error: Niculescu-Mizil and Caruana, "Predicting Good Probabilities with
Supervised Learning", ICML 2005; Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI
2015. Intervals: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927.)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, spearmanr

BINS: Final = 10
"""At most, of about as many answers each."""
SLOTS: Final = 20
FEWEST: Final = 20
"""Answers of a bin, so that its interval says something."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same confidence. confidence: its mean. hits: share of them; low, high: its 95 % interval."""

    count: int
    confidence: float
    hits: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """error: mean distance between confidence and share of hits, over all answers. order: Spearman's correlation of
    the two over answers, 0 where either never changes: above 0, surer answers hit more often. histogram: answers in
    SLOTS equal pieces of confidence, 0 to 1."""

    bins: tuple[Bin, ...]
    histogram: tuple[int, ...]
    error: float
    order: float


def calibration(confidence: NDArray[np.floating], hits: NDArray[np.floating]) -> Calibration | None:
    """Of (Q,) confidences, 0 to 1, and (Q,) whether each answer was a hit. None for fewer than FEWEST answers."""
    if len(confidence) < FEWEST:
        return None
    order = np.argsort(confidence, kind="stable")
    bins = []
    for rows in _groups(confidence[order]):
        sure, hit = confidence[order][rows], hits[order][rows] > 0
        found = binomtest(int(hit.sum()), len(hit)).proportion_ci(0.95, "wilson")
        bins.append(Bin(len(hit), float(sure.mean()), float(hit.mean()), float(found.low), float(found.high)))
    error = sum(each.count * abs(each.confidence - each.hits) for each in bins) / len(confidence)
    varies = np.ptp(confidence) > 0 and np.ptp(hits) > 0
    histogram = tuple(np.histogram(confidence, SLOTS, (0, 1))[0].tolist())
    return Calibration(tuple(bins), histogram, error, float(spearmanr(confidence, hits).statistic) if varies else 0.0)


def _groups(ascending: NDArray[np.floating]) -> list[slice]:
    """Of about equal size; answers of the same confidence stay together."""
    count = len(ascending)
    wanted = max(1, min(BINS, count // FEWEST))
    cuts = np.searchsorted(ascending, ascending[[count * number // wanted for number in range(1, wanted)]])
    edges = [0, *(int(cut) for cut in np.unique(cuts) if cut > 0), count]
    return [slice(start, stop) for start, stop in pairwise(edges)]
