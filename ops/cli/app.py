"""The command tree, and how an error of a command reaches the terminal.

A command's module imports typer only; what it works with is imported when it runs, so that `kindred --help` stays fast
and `kindred ask` never loads torch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ops.cli import data, evaluate, fault, model, quality, stack, user
from ops.errors import OpsError


class Commands(TyperGroup):
    """Prints an OpsError as two lines, what was wrong and what to do, instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OpsError as error:
            typer.secho(f"Error: {error.text}", err=True, fg=typer.colors.RED)
            if error.remedy:
                typer.echo(error.remedy, err=True)
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    cls=Commands,
    name="kindred",
    help="Useful recommendations for a newcomer, from the first sentence they write.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def options(
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with settings; KINDRED_… variables and .env come first.", exists=True, dir_okay=False
        ),
    ] = None,
) -> None:
    """Settings are searched, first wins: a command's options, KINDRED_… variables, .env, the TOML file, defaults."""
    if config is not None:
        os.environ["KINDRED_CONFIG"] = str(config.resolve())


stack.register(app)
data.register(app)
user.register(app)
model.register(app)
evaluate.register(app)
quality.register(app)
fault.register(app)


def main() -> None:
    app()
