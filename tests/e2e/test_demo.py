"""`kindred demo`, as somebody who has just cloned the repository sees it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.e2e.stack import ROOT

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(300)]


def test_the_demo_shows_answers_a_refit_its_verdict_and_what_both_releases_hit() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", "demo"],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=ROOT,
        env=os.environ | {"KINDRED_ENCODER": "dummy", "COLUMNS": "100"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Newcomers, and what they were given first:" in done.stdout
    assert re.search(r"candidate +0\.\d{3} ± 0\.\d{3}", done.stdout), "the fold table"
    assert re.search(r"refit-\w{12} is (accepted|rejected): ", done.stdout), "the verdict in words"
    ours, popular = map(float, re.findall(r"all answers +(\d\.\d{3}) +(\d\.\d{3})", done.stdout)[0])
    assert ours > popular
    if "is accepted" in done.stdout:
        assert re.search(r"refit-\w{12} +\d\.\d{3} +\d\.\d{3} +[1-9]", done.stdout), "the workers serve it"
    assert "nothing is left running" in done.stdout
