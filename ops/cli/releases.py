"""The release directory, read through the manifests only: no weights are loaded and nothing is verified."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console

from ops.cli.render import plain_table
from ops.errors import NotFound
from schemas.codec import decode_manifest
from schemas.errors import ManifestError
from schemas.release import MANIFEST_FILE, Manifest


def read_releases(directory: Path) -> list[Manifest]:
    """Newest first. Raises NotFound where there is none, also for manifests that this version cannot read."""
    found: list[Manifest] = []
    unreadable: list[str] = []
    for path in sorted(directory.glob(f"*/{MANIFEST_FILE}")):
        try:
            found.append(decode_manifest(path.read_bytes()))
        except ManifestError as error:
            unreadable.append(f"{path}: {error}")
    if not found:
        raise NotFound(
            f"No release in {directory}{'; ' if unreadable else ''}{'; '.join(unreadable)}.",
            "The built-in one is written when a worker starts: `kindred up`. KINDRED_RELEASES names another directory.",
        )
    return sorted(found, key=lambda manifest: manifest.created_at, reverse=True)


def show_releases(directory: Path, *, as_json: bool) -> None:
    found = read_releases(directory)
    if as_json:
        rows = [manifest.model_dump(mode="json", exclude={"golden"}) for manifest in found]
        sys.stdout.write(json.dumps(rows, ensure_ascii=False) + "\n")
        return
    table = plain_table("release", "made", "space", "encoder", "head", "verdict")
    for manifest in found:
        encoder = manifest.encoder
        verdict = manifest.verdict
        table.add_row(
            manifest.name,
            manifest.created_at.strftime("%Y-%m-%d %H:%M"),
            manifest.space[:12],
            f"{encoder.name} ({encoder.dimension} dimensions, {encoder.max_tokens} tokens)",
            "identity" if manifest.head is None else manifest.head.file,
            "built in" if verdict is None else ("accepted" if verdict.accepted else "rejected"),
        )
    Console().print(table)
