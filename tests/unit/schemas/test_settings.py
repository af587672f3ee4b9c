"""What a service is told: each combination of TLS and login, what is wrong named without its value, no secret shown."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import trustme
from pydantic import ValidationError

from schemas.access import KafkaAccess
from schemas.settings import ConnectionSettings, ReleasePlace, SettingsError, read_settings

SECRET: Final = "hush-hush-4711"

Set = Callable[..., None]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Set:
    """Sets KINDRED_ variables, by lower-case names; no others are set, and there is no .env."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("KINDRED_")]:
        monkeypatch.delenv(name)

    def set_all(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"KINDRED_{name.upper()}", str(value))

    return set_all


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, client.pem, client.key, other.key and encrypted.key."""
    directory = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    mine, other = authority.issue_cert("client"), authority.issue_cert("other")
    mine.cert_chain_pems[0].write_to_path(str(directory / "client.pem"))
    mine.private_key_pem.write_to_path(str(directory / "client.key"))
    other.private_key_pem.write_to_path(str(directory / "other.key"))
    return directory


def wrong() -> str:
    with pytest.raises(SettingsError) as caught:
        read_settings(ConnectionSettings)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def test_without_anything_kafka_is_spoken_to_in_the_clear(given: Set) -> None:
    given()
    access = read_settings(ConnectionSettings).kafka()
    assert (access.arguments()["bootstrap_servers"], dict(access.security)) == (["localhost:9092"], {})


def test_a_broker_that_was_away_for_long_is_found_within_a_second(given: Set) -> None:
    given()
    assert read_settings(ConnectionSettings).kafka().arguments()["reconnect_backoff_max_ms"] <= 1000


def test_several_brokers_are_separated_by_commas(given: Set) -> None:
    given(kafka_bootstrap="one:1,two:2")
    assert read_settings(ConnectionSettings).kafka().arguments()["bootstrap_servers"] == ["one:1", "two:2"]


def test_tls_checks_the_certificate_and_the_name(given: Set, pem: Path) -> None:
    given(kafka_security="SSL", kafka_ca=pem / "ca.pem")
    access = read_settings(ConnectionSettings).kafka()
    assert access.security.keys() == {"security_protocol", "ssl_context"}
    assert access.tls is not None
    assert access.tls.check_hostname
    assert access.tls.verify_mode.name == "CERT_REQUIRED"
    assert access.tls.minimum_version.name == "TLSv1_2"
    assert len(access.tls.get_ca_certs()) == 1


def test_mutual_tls_takes_a_certificate_and_its_key(given: Set, pem: Path) -> None:
    given(kafka_security="SSL", kafka_certificate=pem / "client.pem", kafka_key=pem / "client.key")
    assert read_settings(ConnectionSettings).kafka().tls is not None


@pytest.mark.parametrize("security", ["SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
def test_a_login_has_a_mechanism_a_user_and_a_password(given: Set, security: str, mechanism: str) -> None:
    given(kafka_security=security, kafka_sasl=mechanism, kafka_user="kin", kafka_password=SECRET)
    access = read_settings(ConnectionSettings).kafka()
    arguments = access.arguments()
    assert (arguments["security_protocol"], arguments["sasl_mechanism"]) == (security, mechanism)
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("kin", SECRET)
    assert (access.user, access.protocol) == ("kin", security)
    assert (access.tls is not None) == (security == "SASL_SSL")


def test_an_empty_value_stands_for_none(given: Set) -> None:
    # docker compose passes variables that nobody has set as empty ones.
    given(kafka_user="", kafka_password="", kafka_ca="", redis_url="", releases="")
    settings = read_settings(ConnectionSettings)
    assert settings.kafka() == KafkaAccess("localhost:9092")
    assert settings.releases == Path(".kindred/releases")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"kafka_security": "SASL_SSL", "kafka_user": "kin"}, "KINDRED_KAFKA_PASSWORD"),
        ({"kafka_security": "SASL_SSL", "kafka_password": SECRET}, "KINDRED_KAFKA_USER"),
        ({"kafka_password": SECRET}, "KINDRED_KAFKA_SECURITY"),
        ({"kafka_security": "SSL", "kafka_user": "kin", "kafka_password": SECRET}, "KINDRED_KAFKA_SECURITY"),
        ({"kafka_security": "TLS", "kafka_password": SECRET}, "KINDRED_KAFKA_SECURITY: Input should be 'PLAINTEXT'"),
        ({"kafka_ca": "ca.pem"}, "KINDRED_KAFKA_CA: the file ca.pem cannot be read (No such file or directory)"),
        ({"kafka_ca": "{pem}/ca.pem"}, "neither SSL nor SASL_SSL"),
        ({"kafka_security": "SSL", "kafka_ca": "{pem}/client.key"}, "client.key holds no certificate"),
        ({"kafka_security": "SSL", "kafka_key": "{pem}/client.key"}, "KINDRED_KAFKA_CERTIFICATE and KINDRED_KAFKA_KEY"),
        (
            {"kafka_security": "SSL", "kafka_certificate": "{pem}/client.pem", "kafka_key": "{pem}/other.key"},
            "are not a certificate and its unencrypted key",
        ),
        ({"log_level": SECRET}, "KINDRED_LOG_LEVEL"),
        ({"redis_url": f"http://:{SECRET}@localhost"}, "KINDRED_REDIS_URL: must look like redis://"),
        ({"redis_url": f"redis://kin:{SECRET}/with-a-slash@localhost:6379/0"}, "%2F"),
        ({"redis_url": f"redis://:{SECRET}@localhost:{SECRET}/0"}, "KINDRED_REDIS_URL"),
        ({"redis_url": f"localhost:{SECRET}"}, "KINDRED_REDIS_URL"),
        ({"namespace": f"{SECRET} {{}}"}, "KINDRED_NAMESPACE"),
    ],
)
def test_what_is_wrong_is_named_without_its_value(given: Set, pem: Path, values: dict[str, str], named: str) -> None:
    given(**{name: value.replace("{pem}", str(pem)) for name, value in values.items()})
    assert named in wrong()


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://",
        f"rediss://kin:{SECRET}%2F@redis:6380/1?ssl_ca_certs=/etc/ca.pem",
        f"unix://kin:{SECRET}@/run/redis.sock?db=1",
        "redis://[::1]:6379/0",
    ],
)
def test_redis_is_any_url_that_its_client_knows(given: Set, url: str) -> None:
    given(redis_url=url)
    assert read_settings(ConnectionSettings).redis_url.get_secret_value() == url


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(given: Set, pem: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key((pem / "client.key").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(SECRET.encode()))
    (pem / "encrypted.key").write_bytes(locked)
    given(kafka_security="SSL", kafka_certificate=pem / "client.pem", kafka_key=pem / "encrypted.key")
    assert "unencrypted key" in wrong()


def test_no_secret_is_in_any_form_of_settings_and_their_errors(given: Set) -> None:
    secrets = {"kafka_password": SECRET, "redis_url": f"redis://:{SECRET}@localhost/0"}
    given(kafka_security="SASL_SSL", kafka_user="kin", **secrets)
    settings = ConnectionSettings()
    shown = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
    access: KafkaAccess = settings.kafka()
    shown += [repr(access), str(access)]
    given(kafka_security="PLAINTEXT")
    with pytest.raises(ValidationError) as caught:
        ConnectionSettings()
    shown += [str(caught.value), repr(caught.value), "".join(traceback.format_exception(caught.value))]
    assert not [text for text in shown if SECRET in text]


def test_secrets_come_from_files_too_and_lose_to_variables(given: Set, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "kindred_kafka_password").write_text(f"{SECRET}\n")
    (secrets / "kindred_kafka_user").write_text("from a file")
    given(kafka_security="SASL_SSL", kafka_user="from a variable", secrets=secrets)
    arguments = read_settings(ConnectionSettings).kafka().arguments()
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("from a variable", SECRET)


def test_secrets_come_before_the_toml_file(given: Set, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "kindred_group").write_text("of the secrets")
    (tmp_path / "k.toml").write_text('group = "of the file"\nnamespace = "of-the-file"\n')
    given(secrets=secrets, config=tmp_path / "k.toml")
    settings = read_settings(ConnectionSettings)
    assert (settings.group, settings.namespace) == ("of the secrets", "of-the-file")


def test_a_directory_of_secrets_that_is_not_there_is_an_error(given: Set, tmp_path: Path) -> None:
    given(secrets=tmp_path / "gone")
    assert "KINDRED_SECRETS" in wrong()


def test_a_secret_that_is_not_text_is_an_error(given: Set, tmp_path: Path) -> None:
    (tmp_path / "kindred_kafka_password").write_bytes(b"\xff\xfe")
    given(secrets=tmp_path)
    assert "KINDRED_SECRETS" in wrong()


@pytest.mark.parametrize(
    ("content", "named"),
    [(None, "is not a file"), (f"kafka_password = {SECRET}".encode(), "is not TOML"), (b"\xff", "not UTF-8")],
)
def test_a_toml_file_that_cannot_be_read_is_an_error(
    given: Set, tmp_path: Path, content: bytes | None, named: str
) -> None:
    if content is not None:
        (tmp_path / "k.toml").write_bytes(content)
    given(config=tmp_path / "k.toml")
    said = wrong()
    assert "KINDRED_CONFIG" in said
    assert named in said


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("releases", "releases"),
        ("/srv/releases", "/srv/releases"),
        ("file:///srv/my%20releases", "/srv/my releases"),
        ("file://localhost/srv/releases", "/srv/releases"),
    ],
)
def test_releases_are_a_directory_or_a_file_url(given: Set, value: str, path: str) -> None:
    given(releases=value)
    assert read_settings(ConnectionSettings).releases == Path(path)


def test_a_plain_directory_of_releases_is_the_only_place_they_are_in(given: Set) -> None:
    given(releases="/srv/releases")
    assert read_settings(ConnectionSettings).release_place == ReleasePlace(Path("/srv/releases"))


def test_of_releases_behind_a_url_there_are_copies_in_the_cache(given: Set, tmp_path: Path) -> None:
    given(releases="S3://bucket/x/", release_schemes="file,s3", cache=tmp_path)
    place = read_settings(ConnectionSettings).release_place
    assert place.url == "s3://bucket/x"
    assert place.directory.is_relative_to(tmp_path)
    given(releases="s3://bucket/y")
    assert read_settings(ConnectionSettings).release_place.directory != place.directory


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"releases": f"s3://{SECRET}@bucket/x"}, "the scheme s3 is not among KINDRED_RELEASE_SCHEMES (file)"),
        ({"releases": "HTTPS://host/x"}, "the scheme https is not among"),
        (
            {"releases": "file:///x", "release_schemes": "s3"},
            "the scheme file is not among",
        ),
        ({"releases": f"s3://{SECRET}@bucket/x", "release_schemes": "file,s3"}, "a place and nothing else"),
        ({"releases": f"s3://bucket/x?key={SECRET}", "release_schemes": "file,s3"}, "a place and nothing else"),
        ({"releases": "simplecache::s3://b/x", "release_schemes": "s3"}, "the scheme simplecache::s3 is not among"),
        ({"releases": "s3://b/x::memory://y", "release_schemes": "s3"}, "a place and nothing else"),
        ({"releases": "file://elsewhere/x"}, "file:///srv/releases"),
        ({"releases": "file:///x?y=1"}, "file:///srv/releases"),
        ({"release_schemes": "file;s3"}, "KINDRED_RELEASE_SCHEMES"),
    ],
)
def test_other_schemes_of_releases_are_refused(given: Set, tmp_path: Path, values: dict[str, str], named: str) -> None:
    given(**values)
    assert named in wrong()
    assert not list(tmp_path.iterdir())
