"""`kindred produce`, `watch`, `topics create`: what goes in and what comes out."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.options import DataDir, Json


def register(app: typer.Typer) -> None:
    app.command()(produce)
    app.command()(watch)
    topics = typer.Typer(help="The Kafka topics.", no_args_is_help=True)
    topics.command("create")(topics_create)
    app.add_typer(topics, name="topics")


def produce(
    file: Annotated[str, typer.Argument(help="JSON lines, also .gz; - reads standard input.", metavar="FILE")],
    data_dir: DataDir = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", help="TARGET=SOURCE, such as occurred_at=ts; may be given again.", show_default=False),
    ] = None,
    topic: Annotated[str, typer.Option(help="user-text or items.")] = "user-text",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Count bad lines instead of stopping at one.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Send so many lines only.", show_default=False)] = None,
) -> None:
    """Send a file of events (or items) to Kafka.

    Each line is checked by the rules of the topic before it is sent. Ends with the count and the rate.
    """
    from ops.cli.produce import produce_file
    from ops.cli.target import find

    produce_file(file, find(data_dir), topic=topic, fields=fields or [], skip_bad=skip_bad, limit=limit)


def watch(
    data_dir: DataDir = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many answers.", show_default=False)] = None,
    once: Annotated[bool, typer.Option("--once", help="Show the newest answers and the lag, then end.")] = False,
    rows: Annotated[int, typer.Option(min=1, max=200, help="Answers in the table.")] = 8,
    as_json: Json = False,
) -> None:
    """See newcomers, what they are given and why, as it happens; rates and lag above.

    In a pipe, one line an answer: user, n, strategy, interests, first item and its reason, separated by tabs.
    """
    from ops.cli.target import find
    from ops.cli.watch import watch_answers

    watch_answers(find(data_dir), limit=limit, once=once, rows=rows, as_json=as_json)


def topics_create(
    data_dir: DataDir = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Of the topics that have several.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Create the topics that are missing, with the settings they need."""
    import json

    from ops.broker import create_topics
    from ops.cli.target import find

    target = find(data_dir)
    done = create_topics(target.kafka, target.namespace, partitions)
    if as_json:
        typer.echo(json.dumps([{"topic": name, "created": created} for _, name, created in done]))
        return
    for _, name, created in done:
        typer.echo(f"{'created' if created else 'exists '}  {name}")
