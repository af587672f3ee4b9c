from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas import asyncapi
from schemas.topics import TOPICS


def test_the_generated_files_are_what_the_models_say() -> None:
    assert asyncapi.stale() == [], "run python -m schemas.asyncapi"


def test_check_tells_a_stale_file_and_writing_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asyncapi.main([], tmp_path) == 0
    assert asyncapi.main(["--check"], tmp_path) == 0
    (tmp_path / "user-text.json").write_text("{}")
    (tmp_path / "items.json").unlink()
    (tmp_path / "of-a-topic-long-gone.json").write_text("{}")
    assert asyncapi.main(["--check"], tmp_path) == 1
    assert "items.json, of-a-topic-long-gone.json, user-text.json" in capsys.readouterr().err
    assert asyncapi.main([], tmp_path) == 0
    assert asyncapi.main(["--check"], tmp_path) == 0


def resolve(document: dict[str, Any], reference: str) -> object:
    file, _, pointer = reference.partition("#")
    found: Any = json.loads((asyncapi.DIRECTORY / file).read_bytes()) if file else document
    for part in pointer.split("/")[1:]:
        found = found[part]
    return found


def references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("name", sorted(asyncapi.documents()))
def test_every_reference_leads_somewhere(name: str) -> None:
    document = json.loads((asyncapi.DIRECTORY / name).read_bytes())
    for reference in references(document):
        assert isinstance(resolve(document, reference), dict)


def test_every_topic_is_described_with_a_message_and_an_operation() -> None:
    document = json.loads((asyncapi.DIRECTORY / asyncapi.ASYNCAPI).read_bytes())
    assert document["asyncapi"].startswith("3.")
    for topic in TOPICS:
        channel = document["channels"][topic.name]
        assert channel["address"] == topic.name
        operations = [o for o in document["operations"].values() if o["channel"]["$ref"] == f"#/channels/{topic.name}"]
        assert {"in": {"receive"}, "out": {"send"}, "control": {"send", "receive"}}[topic.direction] == {
            operation["action"] for operation in operations
        }
