"""`kindred audit`: the settings and the release that an audit goes by, its progress, and what comes out of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from model.encoder.base import Encoder
from model.errors import ModelError
from model.fetch import fetch
from model.release import load_release
from model.update import DAY_MS
from ops.audit import run
from ops.audit.held import spaces
from ops.audit.report import Report, rendered
from ops.audit.rules import Rules, Stretch
from ops.cli import state
from ops.cli.releases import read_releases, told
from ops.cli.target import Target, settings
from ops.errors import BadInput, ImportFailed, NotFound
from worker.settings import WorkerSettings
from worker.store.keys import SPACE_CHARACTERS, notes_key

STEPS: Final = {
    "replay": "replaying the log",
    "order": "looking at users in several partitions",
    "users": "comparing users",
    "sums": "comparing sums and names",
    "keys": "looking through Redis",
    "catalogue": "reading the catalogue",
    "answers": "reading recommendations",
    "letters": "reading dead letters",
    "interests": "reading interests",
}


def run_audit(
    target: Target,
    *,
    sample: int,
    undisturbed: bool,
    skipped: list[str],
    unanswered: list[str],
    as_json: bool,
) -> Report:
    """Audit, and print. Raises OpsError's kin."""
    chosen = settings(WorkerSettings)
    rules = Rules(
        now_ms=int(time.time() * 1000),
        newcomer_events=chosen.newcomer_events,
        user_ttl_ms=int(chosen.user_ttl_days * DAY_MS),
        secret=chosen.user_key_secret.get_secret_value().encode(),
        start=chosen.start,
        min_donors=chosen.min_donors,
        answer_after_ms=0 if chosen.answer_after is None else int(chosen.answer_after.timestamp() * 1000),
        exactly_once=chosen.delivery == "exactly_once",
        undisturbed=undisturbed,
        sample=sample,
        skipped=tuple(map(stretch, skipped)),
        unanswered=tuple(map(stretch, unanswered)),
    )
    encoder = _encoder(target, chosen)
    with _progress(shown=not as_json and sys.stderr.isatty()) as progress:
        report = run.audit(target, encoder, rules, progress)
    if as_json:
        sys.stdout.write(json.dumps(report.as_json(), ensure_ascii=False) + "\n")
    else:
        Console().print(rendered(report))
    return report


def stretch(text: str) -> Stretch:
    """PARTITION:FROM-TO, TO not included. Raises BadInput."""
    try:
        partition, _, offsets = text.partition(":")
        start, _, stop = offsets.partition("-")
        found = Stretch(int(partition), int(start), int(stop))
    except ValueError:
        raise BadInput(
            f"{text!r} is no stretch of a partition.", "Write PARTITION:FROM-TO, such as 3:120-125."
        ) from None
    if found.start >= found.stop:
        raise BadInput(f"{text!r} ends before it begins.", "TO is the first offset that is not meant.")
    return found


def _encoder(target: Target, chosen: WorkerSettings) -> Encoder:
    name = find_release(target)
    try:
        path = fetch(target.releases, name).path
        return load_release(path, cache=chosen.cache, device=chosen.device, backend=chosen.backend).encoder
    except ModelError as error:
        raise ImportFailed(f"The release {name} cannot be loaded: {error}.", "") from error


def find_release(target: Target) -> str:
    """The name of the release whose space Redis has states of; of several, the one that the group says it serves, else
    the newest. Raises NotFound, Unreachable."""
    with state.client(target) as connection:
        held = set(spaces(connection, target.namespace))
        served = connection.hget(notes_key(target.namespace), f"served:{target.group}")
    found = [each for each in read_releases(target.releases) if each.space[:SPACE_CHARACTERS] in held]
    if not found:
        raise NotFound(
            f"None of the releases in {told(target.releases)} is of a space that Redis holds states of.",
            "Is it the workers' Redis (KINDRED_REDIS_URL) and their release directory (KINDRED_RELEASES)?",
        )
    named = [each for each in found if served is not None and Path(served.decode()).name == each.name]
    return (named or found)[0].name


@contextmanager
def _progress(*, shown: bool) -> Iterator[run.Progress]:
    if not shown:
        yield run.silent
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(STEPS[step], total=total or None)
            bars.update(tasks[step], completed=done, total=total or None)

        yield tell
