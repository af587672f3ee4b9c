"""What stands behind a URL of releases: what cannot be reached or opened is told without its secrets. (What becomes of
the releases there: test_fetch.py.)
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import fsspec
import pytest

from model.errors import ReleasesUnreachable
from model.remote import open_remote


def _unreachable(*_: Any, **__: Any) -> None:
    raise ConnectionError("key=s3cret")


def test_what_a_file_system_says_of_itself_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    there = open_remote(f"memory://{uuid4().hex}")
    monkeypatch.setattr(type(there.files), "open", _unreachable)
    with pytest.raises(ReleasesUnreachable, match=r"could not be read \(ConnectionError\)") as failed:
        there.manifest("r1")
    assert "s3cret" not in str(failed.value)


def test_where_nothing_was_uploaded_there_is_no_release() -> None:
    there = open_remote(f"memory://{uuid4().hex}")
    assert there.names() == []
    assert there.manifest("r1") is None


def test_what_is_called_as_no_release_may_be_is_passed_over() -> None:
    there = open_remote(f"memory://{uuid4().hex}")
    for name in ("r1", ".hidden", "no release"):
        there.files.pipe_file(f"{there.root}/{name}/manifest.json", b"{}")
    assert there.names() == ["r1"]


@pytest.mark.parametrize("scheme", ["no-such-scheme", "s3"])
def test_a_scheme_that_cannot_be_opened_says_what_to_install(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    if scheme == "s3":
        monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(ReleasesUnreachable, match="s3fs"):
        open_remote(f"{scheme}://bucket/releases")
