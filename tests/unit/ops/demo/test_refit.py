"""How the demo follows its refit."""

from __future__ import annotations

from ops.demo.refit import steps_done


def test_the_step_that_was_last_logged_is_under_way_and_those_before_it_are_done() -> None:
    assert steps_done("") == 0
    assert steps_done("INFO trainer: step 1, window\n") == 0
    assert steps_done("INFO trainer: step 1, window\nINFO trainer: step 2, prepare\nWARNING: slow\n") == 1
