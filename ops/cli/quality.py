"""`kindred bench`: the benchmarks of docs/benchmarks.md."""

from __future__ import annotations

import typer

from ops.errors import StackError


def register(app: typer.Typer) -> None:
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(bench)


def bench(context: typer.Context) -> None:
    """Run the benchmarks; arguments go to them (`kindred bench --help-bench` lists what there is)."""
    import subprocess
    import sys
    from pathlib import Path

    if not Path("benchmarks/__main__.py").is_file():
        raise StackError(
            "The benchmarks are not installed: they are part of the source tree, not of the package.",
            "Run `make bench`, or `kindred bench` from the root of a clone.",
        )
    arguments = ["--help" if argument == "--help-bench" else argument for argument in context.args]
    raise typer.Exit(subprocess.run([sys.executable, "-m", "benchmarks", *arguments], check=False).returncode)
