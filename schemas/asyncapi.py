"""Writes schemas/json: the JSON Schema of every message and an AsyncAPI 3 document of all topics.

    python -m schemas.asyncapi            writes the files
    python -m schemas.asyncapi --check    exit code 1 where a file is not what the models say

Everything in them comes from `schemas/topics.py`, the models and the examples; this module decides nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from schemas.dead_letter import DETAIL, LEFT_OUT, OFFSET, PARTITION, REASON, TIMESTAMP, TOPIC, WORKER
from schemas.errors import Reason
from schemas.examples import examples
from schemas.headers import EVENT_ID, SCHEMA, SCHEMA_VERSION, TRACE
from schemas.release import Manifest
from schemas.topics import DEAD_LETTERS, TOPICS, USER_TEXT, Topic

DIRECTORY: Final = Path(__file__).parent / "json"
ASYNCAPI: Final = "asyncapi.json"

_STRING: Final = {"type": "string"}
_ACTIONS: Final = {"in": ("receive",), "out": ("send",), "control": ("send", "receive")}


def documents() -> dict[str, bytes]:
    """File name → content of everything in schemas/json."""
    found = {f"{topic.name}.json": _json_schema(topic.message) for topic in TOPICS if topic.message is not None}
    found["release-manifest.json"] = _json_schema(Manifest)
    found[ASYNCAPI] = _asyncapi()
    return {
        name: (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode() for name, content in found.items()
    }


def stale(directory: Path = DIRECTORY) -> list[str]:
    """Names of files that are missing, differ from what `documents` gives, or should not be there."""
    wanted = documents()
    present = {path.name: path.read_bytes() for path in directory.glob("*.json")}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def _json_schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}


def _asyncapi() -> dict[str, Any]:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Kindred",
            "version": str(SCHEMA_VERSION),
            "description": "Texts of users come in, recommendations for newcomers go out. Topic names may carry a "
            "namespace in front: NAMESPACE.user-text.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {
            f"{action}-{topic.name}": {
                "action": action,
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "summary": topic.description,
            }
            for topic in TOPICS
            for action in _ACTIONS[topic.direction]
        },
        "components": {"messages": {topic.name: _message(topic) for topic in TOPICS}},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    configuration: dict[str, Any] = {"cleanup.policy": topic.config["cleanup.policy"].split(",")}
    if "retention.ms" in topic.config:
        configuration["retention.ms"] = int(topic.config["retention.ms"])
    return {
        "address": topic.name,
        "description": topic.description,
        "messages": {topic.name: {"$ref": f"#/components/messages/{topic.name}"}},
        "bindings": {
            "kafka": {
                "partitions": topic.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": "0.5.0",
            }
        },
        "x-written-by": topic.owner,
    }


def _message(topic: Topic) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": topic.message.__name__ if topic.message else "DeadLetter",
        "summary": topic.description,
        "headers": {"type": "object", "properties": _headers(topic)},
        "bindings": {"kafka": {"key": {"type": "string", "description": topic.key}, "bindingVersion": "0.5.0"}},
    }
    if topic.message is None:
        message["contentType"] = "application/octet-stream"
        message["payload"] = {"description": f"The bytes of the bad record of {USER_TEXT.name}, as they came."}
    else:
        message["payload"] = {"$ref": f"./{topic.name}.json"}
        message["examples"] = [
            {"name": example.name, "payload": json.loads(example.value)}
            for example in examples(topic.name)
            if example.name == "valid/full.json" and example.value is not None
        ]
    if topic.tombstone is not None:
        message["x-null-value"] = topic.tombstone
    return message


def _headers(topic: Topic) -> dict[str, Any]:
    if topic is DEAD_LETTERS:
        return {
            REASON: {"type": "string", "enum": [reason.value for reason in Reason]},
            **dict.fromkeys((DETAIL, TOPIC, PARTITION, OFFSET, TIMESTAMP, WORKER), _STRING),
            **{f"{LEFT_OUT}{part}": _STRING for part in ("value", "headers", "key")},
        }
    headers: dict[str, Any] = {SCHEMA: {"type": "string", "examples": [f"{topic.name}/{SCHEMA_VERSION}"]}}
    if topic is USER_TEXT:
        headers[EVENT_ID] = _STRING
        headers |= dict.fromkeys(sorted(TRACE), _STRING)
    return headers


def main(arguments: Sequence[str] | None = None, directory: Path = DIRECTORY) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m schemas.asyncapi", description="Write schemas/json.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a file is stale")
    if parser.parse_args(arguments).check:
        found = stale(directory)
        if found:
            sys.stderr.write(f"stale: {', '.join(found)}; run python -m schemas.asyncapi\n")
        return 1 if found else 0
    directory.mkdir(exist_ok=True)
    wanted = documents()
    for path in directory.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, content in wanted.items():
        (directory / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
