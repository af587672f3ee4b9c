"""`kindred evaluate`: what answers would have been worth on a file's own newcomers, beside plain methods.

The file's texts and their vectors are kept in a window, as the trainer keeps a log's: a second run encodes nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.options import Json
from ops.errors import BadInput

if TYPE_CHECKING:
    from model.encoder.base import Encoder
    from ops.cli.steps import Steps
    from trainer.evaluate.evaluation import Evaluation, Settings

NAMED_BAD_LINES = 5
NEWEST = 200_000


def register(app: typer.Typer) -> None:
    app.command()(evaluate)


def evaluate(
    files: Annotated[
        list[str],
        typer.Argument(help="JSON lines in the order of time, .gz or not; each file is a set.", metavar="FILE…"),
    ],
    field: Annotated[
        list[str] | None,
        typer.Option("--field", help="Take a field from another of the file, such as occurred_at=ts. Repeatable."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="minilm, bge-small-zh, dummy, a directory, or a hub name. Default: KINDRED_ENCODER."),
    ] = None,
    refit_at: Annotated[
        str,
        typer.Option(
            help="Shares of the stream at which the blend is fitted again, for a second contestant; or none.",
            metavar="SHARES",
        ),
    ] = ".4,.6,.8",
    warm_up: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the events before the first newcomer is asked after.")
    ] = 0.2,
    picture: Annotated[Path | None, typer.Option(help="Draw the sets into this PNG.", metavar="FILE.png")] = None,
    cache: Annotated[
        Path, typer.Option(help="Where texts and their vectors are kept for the next run; may be deleted.")
    ] = Path(".kindred/evaluate"),
    newest: Annotated[
        int, typer.Option(min=1, help="Of a longer file only so many newest events: bounds time and memory.")
    ] = NEWEST,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Count bad lines instead of stopping.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of fits and of the bootstrap.")] = 0,
    as_json: Json = False,
) -> None:
    """Replay files in the order of time and ask: what would newcomers have been given, and did they take it later?

    After a warm-up each user's first and third text is a question, answered with nothing but what came before it: by
    Kindred with the shipped blend, by Kindred with a blend that is fitted on the past as time goes on, and by plain
    methods. Needs no Kafka and no Redis.
    """
    import os

    # Before numpy is loaded: one question is a small product, and OpenBLAS' waiting threads spin. On two busy cores
    # 19,000 events were lived through in 64 s instead of 171 s.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from trainer.evaluate.evaluation import Settings

    if picture is not None and not picture.resolve().parent.is_dir():
        raise BadInput(f"--picture {picture}: its directory does not exist.", "Make it, or name another one.")
    settings = Settings(warm_up, shares(refit_at, warm_up), seed)
    found = _all(files, field or [], settings, encoder, cache, newest=newest, skip_bad=skip_bad)
    if as_json:
        document = {
            "format": 1,
            "sets": [{"file": file, **each.plain()} for file, each in zip(files, found, strict=True)],
        }
        sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    else:
        from rich.console import Console

        from ops.cli.evaluation_tables import evaluations

        Console().print(evaluations(found))
    if picture is not None:
        _draw(found, picture)


def shares(given: str, warm_up: float) -> tuple[float, ...]:
    """ ".4,.6" → (.4, .6); "none" → (). Raises BadInput."""
    if given.strip().lower() == "none":
        return ()
    remedy = "Write --refit-at .4,.6,.8, or --refit-at none."
    try:
        found = tuple(float(part) for part in given.replace(",", " ").split())
    except ValueError:
        raise BadInput(f"--refit-at {given} is no list of numbers.", remedy) from None
    if not found or any(not warm_up < share < 1 for share in found) or list(found) != sorted(set(found)):
        raise BadInput(f"--refit-at {given}: shares must rise and lie between the warm-up ({warm_up:g}) and 1.", remedy)
    return found


def names_of(files: Sequence[str]) -> list[str]:
    """What the sets are called: as the file, or as its directory where that is called `events…`; each another name."""
    names: list[str] = []
    for file in files:
        path = Path(file)
        stem = path.name.split(".")[0]
        name = (path.resolve().parent.name if stem.startswith("events") else stem) or stem
        taken = sum(1 for other in names if other == name or other.startswith(f"{name} ("))
        names.append(f"{name} ({taken + 1})" if taken else name)
    return names


def _all(
    files: Sequence[str],
    fields: Sequence[str],
    settings: Settings,
    encoder: str | None,
    cache: Path,
    *,
    newest: int,
    skip_bad: bool,
) -> list[Evaluation]:
    from model.encoder.load import load_encoder
    from model.errors import ModelError
    from ops.cli import target
    from ops.cli.steps import steps
    from ops.errors import StackError
    from schemas.settings import ConnectionSettings

    given = target.settings(ConnectionSettings)
    with steps() as shown:
        try:
            loaded = load_encoder(
                encoder or given.encoder, device=given.device, backend=given.backend, cache=given.cache
            )
        except ModelError as error:
            raise BadInput(f"The encoder cannot be used: {error}.") from error
        try:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(
                f"{cache} cannot be written: {error.strerror}.", "Name another directory with --cache."
            ) from error
        return [
            _one(file, name, fields, settings, loaded, cache, shown.of(name), newest=newest, skip_bad=skip_bad)
            for file, name in zip(files, names_of(files), strict=True)
        ]


def _one(
    file: str,
    name: str,
    fields: Sequence[str],
    settings: Settings,
    encoder: Encoder,
    cache: Path,
    shown: Steps,
    *,
    newest: int,
    skip_bad: bool,
) -> Evaluation:
    from ops.cli.events_file import NOW_MS, EventsFile, NoItems
    from ops.errors import StackError
    from trainer.errors import TooLittleData, WindowUnusable
    from trainer.evaluate.evaluation import evaluate as evaluated
    from trainer.read import Reach, read_window
    from trainer.window import Window

    source = EventsFile(file, fields, skip_bad=skip_bad, progress=lambda done, of: shown("looking over", done, of))
    for line in source.bad[:NAMED_BAD_LINES]:
        shown.say(f"{file}, line {line.number}: {line.why}")
    if source.bad:
        shown.say(f"{file}: {len(source.bad):,} bad lines are passed over.")
    if (count := source.bounds()[0].end) > newest:
        shown.say(f"{file}: only the newest {newest:,} of {count:,} events are evaluated; --newest takes more.")
    try:
        # Named by what is in the file: one that has changed is another window, and none is ever stale.
        with (
            Window(cache / f"{source.topic_id()}.sqlite") as window,
            tempfile.TemporaryDirectory(dir=cache) as directory,
        ):
            read_window(
                window,
                source,
                NoItems(),
                secret=b"",
                reach=Reach(newest=newest),
                now_ms=NOW_MS,
                on_progress=lambda done, of: shown("reading", done, of),
            )
            found = evaluated(window, encoder, name, settings, Path(directory), shown)
    except TooLittleData as error:
        raise BadInput(f"{file} cannot be evaluated: {error}.") from error
    except WindowUnusable as error:
        raise StackError(f"{error}.", "Name another directory with --cache.") from error
    except OSError as error:
        raise StackError(f"{cache} takes no more: {error.strerror}.", "Name another directory with --cache.") from error
    if found.measured.items is None and found.measured.labels is None:
        raise BadInput(
            f"Nothing in {file} can be judged. {' '.join(found.notes)}",
            "Events need an item_id that several users share, or labels; --field item_id=SOURCE takes a field of "
            "another name.",
        )
    return found


def _draw(found: Sequence[Evaluation], picture: Path) -> None:
    from trainer.evaluate.picture import drawn

    try:
        picture.write_bytes(drawn(found))
    except OSError as error:
        raise BadInput(f"--picture {picture} cannot be written: {error.strerror}.", "Name another file.") from error
