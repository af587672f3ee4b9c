from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainer.gate import CANDIDATE, CURRENT, RAW_KNN, Check, Judged, Limits, gate, paired_gain
from trainer.judge import fitness
from trainer.measure import Measured

USERS = 400
FAST = Limits(resamples=400)


def judged(
    candidate: NDArray[np.floating],
    other: NDArray[np.floating],
    *,
    against: str = CURRENT,
    groups: Mapping[str, NDArray[np.bool_]] | None = None,
    user: NDArray[np.int64] | None = None,
) -> Judged:
    who = np.arange(len(candidate)) if user is None else user
    return Judged("hit@10", who, {CANDIDATE: candidate, against: other}, groups or {})


def hits(rate: float, seed: int = 0, count: int = USERS) -> NDArray[np.float64]:
    return (np.random.default_rng(seed).random(count) < rate).astype(np.float64)


def better(scores: NDArray[np.float64], by: int) -> NDArray[np.float64]:
    """So many more questions are hit."""
    more = scores.copy()
    more[np.flatnonzero(scores == 0)[:by]] = 1
    return more


def test_a_clear_gain_is_accepted_with_its_numbers() -> None:
    verdict = gate(judged(better(hits(0.3), 60), hits(0.3)), limits=FAST)
    assert verdict.accepted
    assert verdict.reasons[0].startswith("a gain beyond chance in hit@10 against current: +0.1500")
    assert verdict.numbers["gain.mean"] == pytest.approx(0.15)
    assert 0 < verdict.numbers["gain.low"] < 0.15 < verdict.numbers["gain.high"]
    assert verdict.numbers["hit@10.candidate"] == pytest.approx(verdict.numbers["hit@10.current"] + 0.15)


@pytest.mark.parametrize("by", [0, 2])
def test_no_gain_and_one_that_may_be_chance_are_refused(by: int) -> None:
    verdict = gate(judged(better(hits(0.3), by), hits(0.3)), limits=FAST)
    assert not verdict.accepted
    assert verdict.reasons[0].startswith("no gain beyond chance in hit@10 against current")


def test_a_first_release_must_beat_raw_knn() -> None:
    assert gate(judged(better(hits(0.3), 60), hits(0.3), against=RAW_KNN), limits=FAST).accepted
    assert not gate(judged(hits(0.3), better(hits(0.3), 60), against=RAW_KNN), limits=FAST).accepted


def test_a_group_that_pays_for_the_gain_refuses_it_and_is_named() -> None:
    before = hits(0.5)
    chinese = np.arange(USERS) < 60
    after = better(before, 100)
    after[chinese] = np.where(np.arange(60) % 4 == 0, 0, before[:60])
    verdict = gate(judged(after, before, groups={"language zh": chinese, "language en": ~chinese}), limits=FAST)
    assert not verdict.accepted
    (reason,) = verdict.reasons
    assert reason.startswith("language zh (60 users) falls from")


def test_groups_that_fall_by_chance_alone_refuse_nothing() -> None:
    """A clear gain, and fifty groups of fifty users: some of them fall by far more than the margin."""
    count = 2_500
    before, after = hits(0.2, 1, count), hits(0.3, 2, count)
    groups = {f"label {number}": np.arange(count) // 50 == number for number in range(50)}
    fallen = [name for name, inside in groups.items() if after[inside].mean() < 0.95 * before[inside].mean()]
    assert fallen
    assert gate(judged(after, before, groups=groups), limits=FAST).accepted


def test_a_group_of_too_few_users_is_not_judged() -> None:
    before = hits(0.5)
    few = np.arange(USERS) < 49
    after = better(before, 100)
    after[few] = 0
    assert gate(judged(after, before, groups={"language zh": few}), limits=FAST).accepted


def test_a_group_is_counted_in_users_and_not_in_questions() -> None:
    user = np.repeat(np.arange(USERS // 4), 4)
    before = hits(0.5)
    group = user < 20
    after = better(before, 150)
    after[group] = before[group] * 0.5
    assert group.sum() > 50
    assert gate(judged(after, before, user=user, groups={"language zh": group}), limits=FAST).accepted


@pytest.mark.parametrize("holds", [True, False])
def test_a_check_that_fails_refuses_whatever_the_gain(holds: bool) -> None:
    check = Check("golden vectors", holds, "cosine .98, at least .999 is asked for")
    verdict = gate(judged(better(hits(0.3), 60), hits(0.3)), (check,), FAST)
    assert verdict.accepted is holds
    assert ("golden vectors: cosine .98, at least .999 is asked for" in verdict.reasons) is not holds


FIT = Measured(golden_cosine=1.0, golden_length=1e-6, latency=0.004, latency_ratio=1.1, bytes=400_000)


def test_what_is_fit_to_serve_is_accepted_with_all_its_numbers() -> None:
    verdict = gate(judged(better(hits(0.3), 60), hits(0.3)), fitness(FIT, FAST), FAST)
    assert verdict.accepted
    assert verdict.numbers["golden.cosine"] == 1.0
    assert verdict.numbers["golden.length"] == 1e-6
    assert verdict.numbers["latency.ratio"] == 1.1
    assert verdict.numbers["size.bytes"] == 400_000


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (replace(FIT, golden_cosine=0.9), "golden vectors: cosine 0.9000"),
        (replace(FIT, golden_cosine=np.nan), "golden vectors: cosine nan"),
        (replace(FIT, golden_length=0.2), "golden vectors: cosine 1.0000"),
        (replace(FIT, golden_length=np.nan), "golden vectors: cosine 1.0000"),
        (replace(FIT, latency_ratio=1.51), "latency: answers take 1.51 times as long"),
        (replace(FIT, latency_ratio=np.nan), "latency: answers take nan times as long"),
        (replace(FIT, latency_ratio=np.nan, latency=0.0001), "latency: answers take nan times as long"),
        (replace(FIT, bytes=2_000_000_001), "size: 2,000.0 MB of weights"),
    ],
)
def test_what_is_not_fit_to_serve_is_refused_whatever_the_gain(measured: Measured, reason: str) -> None:
    verdict = gate(judged(better(hits(0.3), 60), hits(0.3)), fitness(measured, FAST), FAST)
    assert not verdict.accepted
    (told,) = verdict.reasons
    assert told.startswith(reason)
    assert all(np.isfinite(value) for value in verdict.numbers.values())


def test_an_answer_that_nobody_notices_is_refused_for_no_ratio() -> None:
    """So short a time cannot be told from what else a machine does."""
    assert all(check.holds for check in fitness(replace(FIT, latency=0.0009, latency_ratio=2.0), FAST))


def test_limits_of_fitness_can_be_set() -> None:
    limits = replace(FAST, latency_margin=0.05, release_bytes=1_000, golden_cosine=1.1)
    assert [check.name for check in fitness(FIT, limits) if not check.holds] == ["golden vectors", "latency", "size"]


def test_numbers_of_checks_are_told_also_where_too_few_ask() -> None:
    verdict = gate(judged(np.ones(1), np.ones(1)), fitness(FIT, FAST), FAST)
    assert verdict.numbers["latency.ratio"] == 1.1


def test_all_reasons_against_it_are_told() -> None:
    check = Check("size", False, "3 GB, at most 2")
    verdict = gate(judged(hits(0.3), better(hits(0.3), 60), groups={"n = 1": np.ones(USERS, np.bool_)}), (check,), FAST)
    assert [reason.split(" ")[0] for reason in verdict.reasons] == ["size:", "no", "n"]


def test_a_score_that_is_no_number_is_refused() -> None:
    scores = better(hits(0.3), 60)
    scores[3] = np.nan
    verdict = gate(judged(scores, hits(0.3)), limits=FAST)
    assert verdict.reasons == ("hit@10 is not a number for some questions",)
    assert not verdict.numbers


@pytest.mark.parametrize("count", [0, 1])
def test_of_too_few_users_nothing_is_concluded(count: int) -> None:
    ones = np.ones(count)
    assert not gate(judged(ones, ones * 0), limits=FAST).accepted


def test_questions_of_one_user_count_as_one_users() -> None:
    differences = hits(0.6, count=200) - hits(0.5, seed=1, count=200)
    alone = paired_gain(differences, np.arange(200), FAST)
    repeated = paired_gain(np.repeat(differences, 10), np.repeat(np.arange(200), 10), FAST)
    assert repeated.mean == pytest.approx(alone.mean)
    # Ten times the questions of the same users say nothing more.
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, rel=0.2)


def test_the_same_seed_gives_the_same_verdict() -> None:
    asked = judged(better(hits(0.3), 30), hits(0.3))
    assert gate(asked, limits=FAST) == gate(asked, limits=FAST)


@settings(max_examples=30)
@given(st.integers(0, 2**16), st.floats(0, 0.2), st.sampled_from([1, 3]))
def test_who_is_accepted_is_refused_the_other_way_round(seed: int, gain: float, repeats: int) -> None:
    before, after = hits(0.3, seed), hits(0.3 + gain, seed + 1)
    user = np.arange(USERS) // repeats
    limits = replace(FAST, resamples=200)
    one = gate(judged(after, before, user=user), limits=limits)
    other = gate(judged(before, after, user=user), limits=limits)
    assert not (one.accepted and other.accepted)


def test_chance_alone_is_seldom_accepted() -> None:
    accepted = sum(gate(judged(hits(0.3, 2 * n), hits(0.3, 2 * n + 1)), limits=FAST).accepted for n in range(100))
    assert accepted <= 8, "an interval of 95 % lets chance through in 2.5 of 100"
