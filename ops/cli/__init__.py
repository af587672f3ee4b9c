"""The `kindred` command. `main` is its entry point."""

from ops.cli.app import main

__all__ = ["main"]
