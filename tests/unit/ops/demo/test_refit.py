"""How the demo follows its refit."""

from __future__ import annotations

import inspect

from ops.demo.refit import PAGE, steps_done, without_page
from trainer import report


def test_the_step_that_was_last_logged_is_under_way_and_those_before_it_are_done() -> None:
    assert steps_done("") == 0
    assert steps_done("INFO trainer: step 1, window\n") == 0
    assert steps_done("INFO trainer: step 1, window\nINFO trainer: step 2, prepare\nWARNING: slow\n") == 1


def test_the_page_that_goes_with_the_demo_is_not_named() -> None:
    assert without_page(f"r1 is accepted.\n{PAGE}releases/reports/r1/index.html\n") == "r1 is accepted.\n"
    assert PAGE in inspect.getsource(report), "the line is the trainer's"
