from __future__ import annotations

from pathlib import Path

import pytest

from ops.cli import target
from ops.errors import BadInput, NoStack
from ops.stack import endpoints
from ops.stack.endpoints import Endpoints
from schemas.settings import ReleasePlace


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine, no stack of this checkout."""
    monkeypatch.chdir(tmp_path)
    for name in ("KAFKA_BOOTSTRAP", "REDIS_URL", "NAMESPACE", "RELEASES", "CONFIG"):
        monkeypatch.delenv(f"KINDRED_{name}", raising=False)


def stack_in(directory: Path, kafka: str) -> Path:
    directory.mkdir()
    endpoints.write(directory, Endpoints(kafka=kafka, redis="redis://r/0"))
    return directory


def test_without_anything_the_stack_in_the_default_directory_is_meant(tmp_path: Path) -> None:
    stack_in(tmp_path / ".kindred", "default:1")
    assert target.find(None).kafka.bootstrap == "default:1"


def test_the_settings_come_before_the_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack_in(tmp_path / ".kindred", "default:1")
    monkeypatch.setenv("KINDRED_KAFKA_BOOTSTRAP", "setting:1")
    assert target.find(None).kafka.bootstrap == "setting:1"


def test_a_named_data_dir_comes_before_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = stack_in(tmp_path / "named", "named:1")
    monkeypatch.setenv("KINDRED_KAFKA_BOOTSTRAP", "setting:1")
    found = target.find(named)
    assert (found.kafka.bootstrap, found.releases) == ("named:1", ReleasePlace(named / "releases"))


def test_a_toml_file_counts_as_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kindred.toml").write_text('kafka_bootstrap = "toml:1"\nnamespace = "shop"\n')
    monkeypatch.setenv("KINDRED_CONFIG", str(tmp_path / "kindred.toml"))
    found = target.find(None)
    assert (found.kafka.bootstrap, found.namespace) == ("toml:1", "shop")


def test_no_stack_at_all_names_the_ways_to_have_one() -> None:
    with pytest.raises(NoStack, match=r"kindred up --detach.*KINDRED_KAFKA_BOOTSTRAP"):
        target.find(None)


def test_a_named_data_dir_without_a_stack_is_an_error_even_with_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINDRED_KAFKA_BOOTSTRAP", "setting:1")
    with pytest.raises(NoStack, match="nowhere"):
        target.find(tmp_path / "nowhere")


def test_a_wrong_setting_is_named_and_its_value_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDRED_NAMESPACE", "hush hush")
    with pytest.raises(BadInput) as caught:
        target.find(None)
    assert "KINDRED_NAMESPACE" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_password_in_the_redis_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDRED_REDIS_URL", "redis://:hush@r/0")
    assert "hush" not in repr(target.find(None))
