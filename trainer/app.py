"""The composition root of the trainer: the only file here that names Kafka and a real encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import kafka
from filelock import FileLock, Timeout

from model.errors import ReleaseRefused
from model.fetch import fetch, name_under
from model.kafka.client import asked, making_no_topics
from model.release import Release, load_release, write_builtin
from model.transfer_weights import TransferWeights
from model.update import DAY_MS
from schemas.announcement import ReleaseAnnouncement
from schemas.topics import ITEMS, MODEL_RELEASES, USER_TEXT, topic_name
from trainer.announce import announce, announced
from trainer.errors import WindowUnusable
from trainer.fit.blend import BlendSettings
from trainer.fit.head import HeadSettings
from trainer.gate import Limits
from trainer.log import KafkaLog
from trainer.prepare import Least
from trainer.publish import retain
from trainer.read import Reach
from trainer.recipe import Options, Parts, Refit, refit
from trainer.settings import TrainerSettings
from trainer.window import Window

log = logging.getLogger(__name__)

CLIENT = "kindred-trainer"
_WINDOW = "window.sqlite"
_LOCK = "trainer.lock"


def run_once(settings: TrainerSettings, tell: Callable[[int, int, int], None]) -> Refit:
    """One refit with these settings. tell: step, done, of.

    Raises TrainerError's and ModelError's kin, BrokerUnavailable and BrokerRefused.
    """
    place = settings.release_place
    with ExitStack() as stack:
        stack.enter_context(_alone(settings.trainer_directory))
        last = _announced(settings)
        release = _current(settings, last)
        parts = Parts(
            window=stack.enter_context(Window(settings.trainer_directory / _WINDOW)),
            texts=stack.enter_context(closing(_log(settings, topic_name(USER_TEXT, settings.namespace)))),
            items=stack.enter_context(closing(_log(settings, topic_name(ITEMS, settings.namespace)))),
            serving=release,
            announced=last,
            place=place,
            announce=partial(_announce, settings),
            tell=tell,
        )
        done = refit(parts, _options(settings), datetime.now(UTC))
        for gone in retain(place, settings.keep_releases, _announced(settings)):
            log.info("the old release %s is removed", gone)
        return done


def _options(settings: TrainerSettings) -> Options:
    parts = settings.fit.split(",")
    return Options(
        secret=settings.user_key_secret.get_secret_value().encode(),
        reach=Reach(settings.window_days, settings.window_events),
        least=Least(settings.least_events, settings.least_users, settings.least_users_with_two_items),
        blend=BlendSettings() if "blend" in parts else None,
        head=HeadSettings() if "head" in parts else None,
        device=settings.device,
        folds=settings.folds,
        warm_up=settings.warm_up,
        seed=settings.seed,
        user_ttl_ms=int(settings.user_ttl_days * DAY_MS),
        limits=Limits(group_margin=settings.group_margin, seed=settings.seed),
        directory=settings.trainer_directory,
    )


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One trainer at a time on this directory; a second one waits, and says so."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(directory / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another trainer is at work in %s, waiting for it to end", directory)
            lock.acquire()
    except OSError as error:
        raise WindowUnusable(
            f"{directory} cannot be written ({error.strerror}); let this program write there, or name another "
            "directory in KINDRED_TRAINER_DIRECTORY"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _log(settings: TrainerSettings, topic: str) -> KafkaLog:
    return KafkaLog(access=settings.kafka(), topic=topic, client_id=CLIENT)


def _announced(settings: TrainerSettings) -> ReleaseAnnouncement | None:
    consumer = asked(
        lambda: kafka.KafkaConsumer(
            **settings.kafka().arguments(),
            group_id=None,
            client_id=CLIENT,
            kafka_client=making_no_topics,
            enable_auto_commit=False,
            isolation_level="read_committed",
        ),
        "consumer",
    )
    with closing(consumer):
        topic = topic_name(MODEL_RELEASES, settings.namespace)
        return asked(lambda: announced(consumer, topic), "announcement")


def _announce(settings: TrainerSettings, told: ReleaseAnnouncement) -> None:
    producer = asked(
        lambda: kafka.KafkaProducer(
            **settings.kafka().arguments(), acks="all", client_id=CLIENT, kafka_client=making_no_topics
        ),
        "producer",
    )
    with closing(producer):
        asked(lambda: announce(producer, topic_name(MODEL_RELEASES, settings.namespace), told), "announce")


def _current(settings: TrainerSettings, last: ReleaseAnnouncement | None) -> Release:
    """The release in service: the announced one, or, where there is none or it is refused, the built-in one."""
    place = settings.release_place
    load = partial(load_release, cache=settings.cache, device=settings.device, backend=settings.backend)
    if last is not None:
        try:
            return load(fetch(place, name_under(place, last.uri), last.sha256).path)
        except ReleaseRefused as refused:
            log.warning("the announced release %s is not what serves (%s); the built-in one is", last.release, refused)
    builtin = write_builtin(
        place.directory,
        settings.encoder,
        TransferWeights.default().to_dict(),
        now=datetime.now(UTC),
        cache=settings.cache,
        device=settings.device,
        backend=settings.backend,
    )
    return load(builtin)
