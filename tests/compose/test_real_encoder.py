"""The same file with the real encoder, fed by its own demo profile with posts that people wrote."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from ops.demo.feed import load_posts
from tests.builders import eventually
from tests.compose.stack import FIRST_EVENTS, running

POSTS: Final = 200
START_S: Final = 400.0
"""The demo waits for a worker that is ready: half a minute or more for the first one of a machine."""


@pytest.mark.docker
@pytest.mark.encoder
@pytest.mark.timeout(1_800)
@pytest.mark.usefixtures("image")
def test_posts_that_the_demo_feeds_are_answered_with_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDRED_DEMO_LIMIT", str(POSTS))
    with running(tmp_path, encoder="minilm", services=["worker"]) as stack:
        stack.compose("--profile", "demo", "up", "--detach", "--no-recreate", "demo", seconds=START_S)
        events = Counter(post.user_id for post, _ in load_posts(POSTS))
        due = {(user, nth) for user, count in events.items() for nth in range(1, min(count, FIRST_EVENTS) + 1)}
        answers: dict[tuple[str, int], list[dict[str, object]]] = {}

        def answered() -> bool:
            answers.update({(each["user_id"], each["nth"]): each["items"] for each in stack.answers()})
            return set(answers) == due

        eventually(answered, "every newcomer is answered", START_S)
        assert sum(map(bool, answers.values())) > len(due) / 2, "most have something to be recommended"
        assert all(item["reasons"] for items in answers.values() for item in items)
