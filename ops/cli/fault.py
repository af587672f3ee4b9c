"""`kindred doctor`, `audit`, `dlq`, `offsets`: what is wrong, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.options import DataDir, Json, Yes

Partition = Annotated[int, typer.Argument(min=0, help="Partition of user-text.", metavar="PARTITION")]
UpTo = Annotated[int, typer.Option("--to", min=0, help="The first offset that this does not reach.")]

Stretches = Annotated[
    list[str] | None,
    typer.Option(help="Records that `offsets skip` has skipped, as PARTITION:FROM-TO.", show_default=False),
]


def register(app: typer.Typer) -> None:
    app.command()(doctor)
    app.command()(audit)
    letters = typer.Typer(help="Dead letters: bad records of user-text.", no_args_is_help=True)
    letters.command("list")(dlq_list)
    letters.command("accept")(dlq_accept)
    letters.command("redrive")(dlq_redrive)
    app.add_typer(letters, name="dlq")
    offsets = typer.Typer(help="Where the workers stand in user-text.", no_args_is_help=True)
    offsets.command("show")(offsets_show)
    offsets.command("skip")(offsets_skip)
    app.add_typer(offsets, name="offsets")


def doctor(
    data_dir: DataDir = None,
    encoder: Annotated[bool, typer.Option(help="Load the encoder too; takes some seconds.")] = True,
    as_json: Json = False,
) -> None:
    """Check Kafka, Redis, the model, the clock and the installation; exits 1 when something must be mended."""
    import json

    from ops.cli.checks import FAIL, run_checks
    from ops.cli.target import find

    checks = run_checks(find(data_dir), with_encoder=encoder)
    if as_json:
        typer.echo(json.dumps([check.as_json() for check in checks], ensure_ascii=False))
    else:
        from rich.console import Console

        from ops.cli.checks import table

        Console().print(table(checks))
    if any(check.status == FAIL for check in checks):
        raise typer.Exit(1)


def audit(
    data_dir: DataDir = None,
    sample: Annotated[
        int, typer.Option(min=1, help="Compute and compare the vectors of one user in N only.", metavar="N")
    ] = 1,
    undisturbed: Annotated[
        bool,
        typer.Option(help="Nothing was ever killed: repeats, and missing answers to users erased since, are findings."),
    ] = False,
    skipped: Stretches = None,
    unanswered: Annotated[
        list[str] | None,
        typer.Option(
            help="Records whose answers and dead letters may be missing, as PARTITION:FROM-TO.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove from outside that nothing was lost or doubled: replay the log serially and compare Redis and the topics.

    Exits 0 when nothing was found, 1 otherwise. Settings must be the workers'. Best on a quiet stack: what is under way
    is left out.
    """
    from ops.cli.audit import run_audit
    from ops.cli.target import find

    report = run_audit(
        find(data_dir),
        sample=sample,
        undisturbed=undisturbed,
        skipped=skipped or [],
        unanswered=unanswered or [],
        as_json=as_json,
    )
    if not report.ok:
        raise typer.Exit(1)


def dlq_list(
    data_dir: DataDir = None,
    reason: Annotated[str | None, typer.Option(help="Only of this reason.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List dead letters: where each bad record stood, why it was bad, and whether it was sent again."""
    from ops.cli.dead_letters import show
    from ops.cli.target import find

    show(find(data_dir), reason, as_json=as_json)


def dlq_accept(partition: Partition, to: UpTo, data_dir: DataDir = None) -> None:
    """Let a partition go on that too many dead letters have paused: those below the offset are accepted as dead."""
    from ops.cli.offsets import check_within
    from ops.cli.state import leave_note
    from ops.cli.target import find

    target = find(data_dir)
    check_within(target, partition, to)
    leave_note(target, f"accept:{partition}", str(to))
    typer.echo(
        f"Partition {partition}: dead letters below offset {to} are accepted. Its worker goes on within seconds."
    )


def dlq_redrive(
    data_dir: DataDir = None,
    reason: Annotated[str | None, typer.Option(help="Only of this reason.", show_default=False)] = None,
    yes: Yes = False,
) -> None:
    """Send the original records of dead letters to their topic again, each at most once, however often this is run.

    For records that are good by now: after an upgrade of the workers, say. The others become dead letters again.
    """
    from ops.cli.dead_letters import redrive
    from ops.cli.target import find

    def agreed(count: int) -> bool:
        return yes or typer.confirm(f"Send {count} records again?")

    done = redrive(find(data_dir), reason, agreed)
    typer.echo(
        f"{done.sent} sent again, {done.already} had been before, {done.left_out} cannot be (a part of the record did "
        f"not fit into its dead letter), {done.erased} must not be (their users were erased since)."
    )


def offsets_show(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show every partition of user-text: first record, committed offset, end, lag."""
    from ops.cli.offsets import show
    from ops.cli.target import find

    show(find(data_dir), as_json=as_json)


def offsets_skip(partition: Partition, to: UpTo, data_dir: DataDir = None, yes: Yes = False) -> None:
    """Skip records of a partition that is paused: those below the offset are never applied, good ones included; users
    who are to be forgotten are forgotten all the same."""
    from ops.cli.offsets import check_within
    from ops.cli.state import skip
    from ops.cli.target import find

    target = find(data_dir)
    start = check_within(target, partition, to)
    if not yes:
        typer.confirm(f"Skip {to - start} records of partition {partition}, good ones included?", abort=True)
    skip(target, partition, start, to)
    typer.echo(
        f"Partition {partition}: records {start} to {to}, that one not included, are skipped. Its worker goes on "
        f"within seconds. Tell `kindred audit` of them with --skipped {partition}:{start}-{to}."
    )
