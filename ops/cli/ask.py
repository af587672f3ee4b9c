"""One event in, its recommendation out, timed. Imports neither torch nor a consumer group: both take seconds."""

from __future__ import annotations

import json
import secrets
import sys
import time

from rich.console import Console

from ops import broker
from ops.cli import render
from ops.cli.answers import Answers, new_answers
from ops.cli.lines import BadLine, Line, read_lines
from ops.cli.target import Target
from ops.errors import BadInput, NoAnswer
from schemas.recommendation import Recommendation
from schemas.topics import USER_TEXT


def ask_and_show(
    target: Target, text: str, *, item_id: str | None, user_id: str | None, seconds: float, as_json: bool
) -> None:
    user = user_id if user_id is not None else f"ask-{secrets.token_hex(6)}"
    answer, latency = ask(target, text, item_id=item_id, user_id=user, seconds=seconds)
    if as_json:
        body = {"latency_ms": round(latency * 1000, 1), "recommendation": answer.model_dump(mode="json")}
        sys.stdout.write(json.dumps(body, ensure_ascii=False) + "\n")
        return
    console = Console()
    console.print(render.recommendation(answer))
    console.print(f"\n{user}, event {answer.nth}: answered in {latency * 1000:.0f} ms.", highlight=False, markup=False)


def ask(
    target: Target, text: str, *, item_id: str | None, user_id: str, seconds: float
) -> tuple[Recommendation, float]:
    """The recommendation, and the seconds from sending the event to having it.

    Raises BadInput, NoAnswer, Unreachable.
    """
    record = event(text, item_id=item_id, user_id=user_id)
    topic = target.topic(USER_TEXT)
    with new_answers(target) as answers, broker.producer(target.kafka, linger_ms=0) as producer:
        # Asked for beforehand, so that the time below is the service's and not the client's start.
        producer.partitions_for(topic)
        started = time.monotonic()
        sent = producer.send(topic, value=record.value, key=record.key).get(timeout=seconds)
        found = _wait(answers, record.key, (sent.partition, sent.offset), started + seconds)
    if found is None:
        raise NoAnswer(
            f"No answer to event {sent.partition}/{sent.offset} within {seconds:.0f} s.",
            "Are the workers ready, and not far behind (`kindred watch`)? A user who has written more than "
            "KINDRED_NEWCOMER_EVENTS texts is no newcomer and gets none.",
        )
    return found, time.monotonic() - started


def event(text: str, *, item_id: str | None, user_id: str) -> Line:
    """Raises BadInput where the text or an id breaks a rule of `user-text`."""
    if not text.strip():
        raise BadInput("The text is empty.", 'Write a sentence: kindred ask "Which tea keeps me awake?"')
    body = {"user_id": user_id, "text": text} | ({} if item_id is None else {"item_id": item_id})
    (line,) = read_lines([json.dumps(body).encode()], USER_TEXT, {}, lambda: int(time.time() * 1000))
    if isinstance(line, BadLine):
        raise BadInput(f"This cannot be sent: {line.why}.", "Change the text or the id.")
    return line


def _wait(answers: Answers, key: bytes, trigger: tuple[int, int], deadline: float) -> Recommendation | None:
    while (left := deadline - time.monotonic()) > 0:
        for answer in answers.poll(int(min(left, 0.5) * 1000) + 1, key):
            if (answer.trigger.partition, answer.trigger.offset) == trigger:
                return answer
    return None
