"""`kindred model promote` and `rollback`: which release is announced, and announcing another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from model.errors import ModelError, Refusal, ReleaseRefused
from model.fetch import fetch, listed
from model.release import BUILTIN
from ops import broker
from ops.cli.target import Target, settings
from ops.errors import NoStack, NotFound, NotServable
from schemas.announcement import ReleaseAnnouncement
from schemas.settings import ConnectionSettings
from schemas.topics import MODEL_RELEASES
from trainer.announce import announce, announced, announcement
from trainer.publish import share, uri


def standing(target: Target) -> ReleaseAnnouncement | None:
    """What is announced, None for nothing. Raises NoStack where the topic is missing, Unreachable, NotAllowed."""
    topic = target.topic(MODEL_RELEASES)
    with broker.admin(target.kafka) as admin:
        if not broker.partitions(admin, topic):
            raise NoStack(f"The topic {topic} does not exist.", "Create the topics with `kindred topics create`.")
    with broker.reader(target.kafka) as reader:
        return announced(reader, topic)


def promote(target: Target, name: str, *, force: bool) -> ReleaseAnnouncement:
    """Announce a release whose files are what its manifest says; force: also one that was not accepted.

    Raises NotFound, NotServable and as `standing`.
    """
    return _announce(target, name, standing(target), force=force)


def _announce(
    target: Target, name: str, last: ReleaseAnnouncement | None, *, force: bool, back: bool = False
) -> ReleaseAnnouncement:
    with _servable():
        whole = fetch(target.releases, name)
    verdict = whole.manifest.verdict
    if not force and (verdict is None or not verdict.accepted):
        why = "nobody has judged it" if verdict is None else "; ".join(verdict.reasons) or "no reason is given"
        raise NotServable(
            f"The release {name} was not accepted: {why}.",
            f"`kindred model promote {name} --force` announces it all the same, for every worker.",
        )
    with _servable():
        share(target.releases, whole)
    told = announcement(whole, uri(target.releases, name), last, datetime.now(UTC), back=back)
    with broker.producer(target.kafka, linger_ms=0) as producer:
        announce(producer, target.topic(MODEL_RELEASES), told)
    return told


def rollback(target: Target, to: str | None) -> ReleaseAnnouncement:
    """Announce an older release again: `to`, or the one that was current before. Raises as `promote`."""
    last = standing(target)
    if last is None:
        raise NotFound("Nothing has been announced: the workers serve the built-in release.")
    name = to or _before(target, last)
    # What was served before may be gone back to, whatever its verdict was.
    return _announce(target, name, last, force=name in last.before, back=True)


def _before(target: Target, last: ReleaseAnnouncement) -> str:
    """The last release before that is still kept; where there is none, the built-in one, which is served at first."""
    encoder = settings(ConnectionSettings).encoder
    with _servable():
        manifests = listed(target.releases).manifests
    kept = {manifest.name for manifest in manifests}
    served = [name for name in last.before if name in kept]
    built_in = [
        manifest.name
        for manifest in manifests
        if manifest.name.startswith(BUILTIN) and manifest.encoder.name == encoder and manifest.name != last.release
    ]
    for name in (*served, *built_in):
        return name
    raise NotFound(
        f"Nothing that was served before {last.release} is kept.",
        "Name a release with --to; `kindred model list` lists them.",
    )


@contextmanager
def _servable() -> Iterator[None]:
    """What model/ raises as ours."""
    try:
        yield
    except ReleaseRefused as refused:
        if refused.reason is Refusal.NO_MANIFEST:
            raise NotFound("No release of this name is there.", "`kindred model list` lists them.") from refused
        raise NotServable(f"{refused}.") from refused
    except ModelError as error:
        raise NotServable(f"{error}.") from error
