from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b

from ops.audit.rules import Stretch, within
from tests.unit.ops.audit.stories import RULES


def test_a_stretch_ends_before_its_end_and_is_of_one_partition() -> None:
    stretches = (Stretch(1, 5, 7),)
    assert [offset for offset in range(10) if within(stretches, 1, offset)] == [5, 6]
    assert not within(stretches, 0, 5)


def test_a_sample_is_the_same_each_time_and_about_as_large_as_asked_for() -> None:
    rules = replace(RULES, sample=20)
    users = [blake2b(b"%d" % n, digest_size=16).digest() for n in range(4000)]
    chosen = [user for user in users if rules.sampled(user)]
    assert chosen == [user for user in users if rules.sampled(user)]
    assert 130 < len(chosen) < 280
    assert all(RULES.sampled(user) for user in users)


def test_a_secret_is_not_printed() -> None:
    assert "hush" not in repr(replace(RULES, secret=b"hush"))
