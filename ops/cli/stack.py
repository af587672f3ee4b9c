"""`kindred up`, `down`, `worker`, `demo`: what runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ops.cli.options import DataDir

if TYPE_CHECKING:
    from rich.console import Console

    from ops.stack.endpoints import Endpoints

Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")]


def register(app: typer.Typer) -> None:
    for command in (up, down, worker, trainer, demo):
        app.command()(command)


def up(
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many workers.")] = 1,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", help="Where logs, Redis' files and endpoints.json go.")
    ] = Path(".kindred"),
    kafka: Annotated[
        Literal["embedded", "apache"],
        typer.Option(help="The broker: embedded forgets on exit; apache keeps its log (Java 17 and Maven)."),
    ] = "embedded",
    detach: Annotated[bool, typer.Option("--detach", help="Return as soon as every worker is ready.")] = False,
    kafka_port: Port = 0,
    redis_port: Port = 0,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the first worker, the others' follow; 0 takes any free ones.")
    ] = 0,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds until every worker must be ready.")] = 180.0,
) -> None:
    """Start a stack on this machine: broker, Redis and workers, supervised.

    Without --detach it runs in the foreground until Ctrl-C. The embedded broker keeps its log in memory only: with the
    stack, everything ends. With --kafka apache log and state stay in the data directory, and the next `up` goes on with
    them; Kafka is fetched with Maven the first time (54 MB).
    """
    from rich.console import Console

    from ops.cli.target import settings
    from ops.stack import apache
    from ops.stack.plan import StackPlan
    from schemas.settings import ConnectionSettings

    given = settings(ConnectionSettings)
    console = Console(log_path=False)
    libs = None
    if kafka == "apache":
        with console.status("Looking for Apache Kafka …"):
            apache.java()
            libs = apache.fetch(given.cache)
    plan = StackPlan(
        data_dir=data_dir,
        workers=workers,
        kafka_port=kafka_port,
        redis_port=redis_port,
        metrics_port=metrics_port,
        namespace=given.namespace,
        start_seconds=timeout,
        kafka_libs=libs,
    )
    if detach:
        from ops.stack.detach import start_detached

        with console.status(f"Starting broker, Redis and {workers} worker(s) …"):
            found = start_detached(plan)
        _show(console, found, data_dir)
        typer.echo(f"End it with: kindred down{_data_dir_option(data_dir)}")
        return
    from ops.stack.detach import stop_on_signals
    from ops.stack.supervisor import Supervisor

    supervisor = Supervisor(plan, lambda text: console.log(text, highlight=False, markup=False))
    stop_on_signals(supervisor)
    console.log(f"Redis, broker and {workers} workers start; logs in {data_dir / 'logs'}.", highlight=False)
    supervisor.run(lambda found: _show(console, found, data_dir))
    console.log("Everything has ended.", highlight=False)


def _data_dir_option(data_dir: Path) -> str:
    return "" if data_dir == Path(".kindred") else f" --data-dir {data_dir}"


def _show(console: Console, found: Endpoints, data_dir: Path) -> None:
    console.print("[bold green]Ready.[/] Kafka and Redis listen on this machine only:")
    console.print(f"  Kafka    {found.kafka}", highlight=False)
    console.print(f"  Redis    {found.redis}", highlight=False)
    for url in found.metrics:
        console.print(f"  metrics  {url}", highlight=False)
    console.print(f'Try: kindred ask{_data_dir_option(data_dir)} "a sentence"', highlight=False, markup=False)


def down(
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Directory of the stack.")] = Path(".kindred"),
) -> None:
    """End the stack of a data directory, also what a crashed `up` left behind."""
    from ops.stack import processes

    ended = processes.down(data_dir)
    typer.echo(f"Ended {', '.join(ended)}." if ended else f"No stack was running in {data_dir}.")


def worker(
    data_dir: DataDir = None,
    name: Annotated[str | None, typer.Option(help="This worker's slot, in logs and dead letters.")] = None,
) -> None:
    """Run one worker in the foreground with the settings (docs/configuration.md)."""
    import os

    from ops.cli.target import find
    from ops.stack.programs import worker_command

    target = find(data_dir)
    environment = os.environ | {
        "KINDRED_KAFKA_BOOTSTRAP": target.kafka.bootstrap,
        "KINDRED_REDIS_URL": target.redis_url,
    }
    if target.data_dir is not None and target.releases.url is None:
        environment["KINDRED_RELEASES"] = str(target.releases.directory.resolve())
    if name is not None:
        environment["KINDRED_NAME"] = name
    command = worker_command()
    # The worker takes this process' place: its signals and its exit code are the worker's own.
    os.execve(command[0], command, environment)  # noqa: S606 (no shell is meant)


def trainer(
    data_dir: DataDir = None,
    once: Annotated[bool, typer.Option("--once", help="One refit, and its table; else whenever one is due.")] = False,
    fit: Annotated[
        str | None,
        typer.Option(help="What is fitted, of pretrain,encoder,blend,head; by default blend,head.", show_default=False),
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="From one refit to the next, where new events came.", show_default=False)
    ] = None,
    events: Annotated[
        int | None, typer.Option(min=1, help="New events that make one due before that.", show_default=False)
    ] = None,
) -> None:
    """Refit the model from the log, judge it on newcomers, and announce it to the workers if it is better."""
    import os
    import sys

    from ops.cli.target import find

    target = find(data_dir)
    environment = os.environ | {"KINDRED_KAFKA_BOOTSTRAP": target.kafka.bootstrap}
    if target.data_dir is not None:
        environment.setdefault("KINDRED_TRAINER_DIRECTORY", str((target.data_dir / "trainer").resolve()))
        if target.releases.url is None:
            environment["KINDRED_RELEASES"] = str(target.releases.directory.resolve())
    told = {"KINDRED_FIT": fit, "KINDRED_REFIT_HOURS": hours, "KINDRED_REFIT_EVENTS": events}
    environment |= {setting: str(value) for setting, value in told.items() if value is not None}
    command = (sys.executable, "-m", "trainer", *(["--once"] if once else []))
    # The trainer takes this process' place: its signals and its exit code are the trainer's own.
    os.execve(command[0], command, environment)  # noqa: S606 (no shell is meant)


def demo(
    workers: Annotated[int, typer.Option(min=1, max=16, help="How many workers.")] = 2,
    limit: Annotated[int | None, typer.Option(min=1, help="Feed so many posts only.", show_default=False)] = None,
    seconds: Annotated[float, typer.Option(min=10.0, help="Stop feeding after so long, the refit apart.")] = 100.0,
) -> None:
    """See it work: an embedded stack, real posts in, recommendations out, a refit between. Leaves nothing running."""
    from ops.demo.run import run

    run(workers=workers, limit=limit, seconds=seconds)
