"""Step 5: may the candidate be served? A pure function of scores on the same questions, and of checks.

The candidate must be better than what is served now (for a window's first release: than raw kNN) beyond chance, and no
group of users may pay for it: fall by more than the margin, and beyond chance. (Of fifty groups, each of fifty users,
some fall by any margin whatever the candidate: docs/decisions/gate.md.) Whatever else is wrong with a release (golden
vectors, latency, size) comes as a check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from schemas.release import Verdict

CANDIDATE: Final = "candidate"
CURRENT: Final = "current"
RAW_KNN: Final = "raw_knn"

Scores = NDArray[np.floating]
"""(Q,) one number a question, higher is better."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Q questions that everybody answered. user: (Q,) numbers of the users who asked. scores: contestant → (Q,) of the
    metric that decides; has the candidate, and the current release or raw kNN. groups: name → (Q,) which questions."""

    metric: str
    user: NDArray[np.int64]
    scores: Mapping[str, Scores]
    groups: Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold besides. said: what was found and what is allowed, for people. numbers: what was found,
    by name, for the verdict."""

    name: str
    holds: bool
    said: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """group_users: a group with fewer is not judged. group_margin: by what share of its score a group may fall.
    level: of the confidence interval; of all groups' together. resamples: of the bootstrap. golden_cosine: least, to
    the golden vectors of the release in service. latency_margin: by what share answers may take longer than with the
    release in service. release_bytes: of a release's weights, at most."""

    group_users: int = 50
    group_margin: float = 0.05
    level: float = 0.95
    resamples: int = 2000
    seed: int = 0
    golden_cosine: float = 0.999
    latency_margin: float = 0.5
    release_bytes: int = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean paired difference, and its confidence interval."""

    mean: float
    low: float
    high: float


def gate(judged: Judged, checks: tuple[Check, ...] = (), limits: Limits | None = None) -> Verdict:
    """Accept or reject, with every reason that speaks against it, or the one that speaks for it."""
    limits = limits or Limits()
    against = CURRENT if CURRENT in judged.scores else RAW_KNN
    reasons = [f"{check.name}: {check.said}" for check in checks if not check.holds]
    numbers = {name: value for check in checks for name, value in check.numbers.items() if np.isfinite(value)}
    if not _finite(judged):
        reasons.append(f"{judged.metric} is not a number for some questions")
        return Verdict(accepted=False, reasons=tuple(reasons), numbers=numbers)
    numbers |= {
        f"{judged.metric}.{name}": float(values.mean()) for name, values in judged.scores.items() if len(values)
    }
    if len(np.unique(judged.user)) < 2:
        return Verdict(accepted=False, reasons=(*reasons, "too few users ask: nothing can be told"), numbers=numbers)
    gain = paired_gain(judged.scores[CANDIDATE] - judged.scores[against], judged.user, limits)
    numbers |= {"gain.mean": gain.mean, "gain.low": gain.low, "gain.high": gain.high}
    told = f"{judged.metric} against {against}: {gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
    if not gain.low > 0:
        reasons.append(f"no gain beyond chance in {told}")
    reasons.extend(_fallen(judged, against, limits))
    if reasons:
        return Verdict(accepted=False, reasons=tuple(reasons), numbers=numbers)
    return Verdict(
        accepted=True, reasons=(f"a gain beyond chance in {told}, and no group pays for it",), numbers=numbers
    )


def paired_gain(differences: Scores, user: NDArray[np.int64], limits: Limits) -> Gain:
    """Mean of differences over questions, with a percentile interval of the bootstrap over *users*: questions of one
    user are not independent. At least two users.

    (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, §13.3.)
    """
    _, place = np.unique(user, return_inverse=True)
    sums = np.bincount(place, differences)
    counts = np.bincount(place).astype(np.float64)

    def mean(sums: NDArray[np.float64], counts: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        ratio: NDArray[np.float64] = sums.sum(axis=axis) / counts.sum(axis=axis)
        return ratio

    found = bootstrap(
        (sums, counts),
        mean,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=limits.level,
        n_resamples=limits.resamples,
        batch=100,
        rng=np.random.default_rng(limits.seed),
    ).confidence_interval
    return Gain(float(differences.mean()), float(found.low), float(found.high))


def _finite(judged: Judged) -> bool:
    return all(bool(np.isfinite(values).all()) for values in judged.scores.values())


def _fallen(judged: Judged, against: str, limits: Limits) -> Iterator[str]:
    """Groups of enough users whose score falls by more than the margin, and beyond chance."""
    users = {name: len(np.unique(judged.user[inside])) for name, inside in judged.groups.items()}
    looked_at = {name: count for name, count in users.items() if count >= max(2, limits.group_users)}
    # Each of n looks errs n times less often (Bonferroni's correction), so that all of them together keep the level.
    each = replace(limits, level=1 - (1 - limits.level) / max(1, len(looked_at)))
    for name, count in looked_at.items():
        inside = judged.groups[name]
        before, after = judged.scores[against][inside], judged.scores[CANDIDATE][inside]
        if after.mean() >= before.mean() * (1 - limits.group_margin):
            continue
        if paired_gain(after - before, judged.user[inside], each).high < 0:
            yield (
                f"{name} ({count} users) falls from {before.mean():.4f} to {after.mean():.4f}, more than "
                f"{limits.group_margin:.0%} and beyond chance"
            )
