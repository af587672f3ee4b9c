"""docs/configuration.md from the settings: `python -m ops.configuration` writes it, `--check` compares."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from schemas.settings import described
from trainer.settings import TrainerSettings
from worker.settings import WorkerSettings

PAGE: Final = Path("docs/configuration.md")

_HEAD: Final = """# Configuration

Every setting is an environment variable. The first of these that has it wins:

1. options of the command (`kindred worker --name`, …)
2. environment variables
3. a file `.env` in the working directory
4. files in the directory that `KINDRED_SECRETS` names, one a setting, called as the variable in lower case
   (`kindred_redis_url`), as container platforms mount secrets
5. a TOML file named by `KINDRED_CONFIG` (or `--config FILE`), with the names below in lower case and without `KINDRED_`
6. the default

An empty value stands for none.

Secrets (`KINDRED_REDIS_URL` with a password, `KINDRED_KAFKA_PASSWORD`, `KINDRED_USER_KEY_SECRET`) are never printed.

| setting | type | default | meaning |
|---|---|---|---|
"""

_TRAINER: Final = """
## The trainer

Besides those that say how Kafka is reached, where releases lie, and which encoder on which device:

| setting | type | default | meaning |
|---|---|---|---|
"""


def page() -> str:
    """The whole page, in Markdown."""
    workers = list(described(WorkerSettings))
    trainers = [row for row in described(TrainerSettings) if row not in workers]
    return _HEAD + _rows(workers) + _TRAINER + _rows(trainers)


def _rows(settings: Iterable[tuple[str, str, str, str]]) -> str:
    return "".join(
        f"| `{name}` | {kind} | {f'`{default}`' if default else ''} | {text} |\n"
        for name, kind, default, text in settings
    )


def main() -> int:
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.read_text() == page() else 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
