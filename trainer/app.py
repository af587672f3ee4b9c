"""The composition root of the trainer: the only file here that names Kafka and a real encoder."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import kafka
from filelock import FileLock, Timeout

from model.errors import ReleaseRefused
from model.fetch import fetch, name_under
from model.kafka.abilities import abilities
from model.kafka.client import CALL_TIMEOUT_MS, asked, making_no_topics
from model.release import Release, load_release, write_builtin
from model.transfer_weights import TransferWeights
from model.update import DAY_MS
from schemas.announcement import ReleaseAnnouncement
from schemas.topics import ITEMS, MODEL_RELEASES, USER_TEXT, topic_name
from trainer.announce import announce, announce_in_turn, announced
from trainer.errors import Stopped, TooLittleData, TurnLost, WindowUnusable
from trainer.fit.blend import BlendSettings
from trainer.fit.head import HeadSettings
from trainer.gate import Limits
from trainer.log import KafkaLog
from trainer.prepare import Least
from trainer.publish import retain
from trainer.read import Reach
from trainer.recipe import Options, Parts, Refit, refit
from trainer.schedule import Schedule, due, new_events
from trainer.settings import TrainerSettings
from trainer.turn import Turn
from trainer.window import Window

log = logging.getLogger(__name__)

CLIENT = "kindred-trainer"
TRANSACTION_MS = 10_000
"""For so long a trainer that was killed while announcing keeps what comes after it from the workers."""
_WINDOW = "window.sqlite"
_LOCK = "trainer.lock"


def refit_due(settings: TrainerSettings, new: Callable[[int], None], stop: Callable[[], bool]) -> str | None:
    """Why a refit is due now, None where it is not. new: told how many events the last one did not see. stop: whether
    to wait no longer for another trainer at work in the directory.

    Raises TrainerError's kin, BrokerUnavailable and BrokerRefused.
    """
    schedule = Schedule(settings.refit_hours, settings.refit_events, settings.least_events)
    with _alone(settings.trainer_directory, stop), Window(settings.trainer_directory / _WINDOW) as window:
        last = window.last_refit()
    with closing(_log(settings, topic_name(USER_TEXT, settings.namespace))) as texts:
        ends = {partition: bounds.end for partition, bounds in texts.bounds().items()}
    new(new_events(last, ends))
    return due(schedule, last, ends, int(time.time() * 1000))


def run_once(settings: TrainerSettings, tell: Callable[[int, int, int], None], stop: Callable[[], bool]) -> Refit:
    """One refit with these settings, in this trainer's turn. tell: step, done, of. stop: whether to wait no longer.

    Raises TrainerError's and ModelError's kin, BrokerUnavailable and BrokerRefused.
    """
    place = settings.release_place
    with ExitStack() as stack:
        stack.enter_context(_alone(settings.trainer_directory, stop))
        turn = stack.enter_context(closing(_turn(settings)))
        turn.take(stop)
        last = _announced(settings)
        release = _current(settings, last)
        parts = Parts(
            window=stack.enter_context(Window(settings.trainer_directory / _WINDOW)),
            texts=stack.enter_context(closing(_log(settings, topic_name(USER_TEXT, settings.namespace)))),
            items=stack.enter_context(closing(_log(settings, topic_name(ITEMS, settings.namespace)))),
            serving=release,
            announced=last,
            place=place,
            announce=partial(_announce, settings, turn, last),
            tell=tell,
        )
        try:
            done = refit(parts, _options(settings), datetime.now(UTC))
        except TooLittleData:
            parts.window.note_refit(int(time.time() * 1000), enough=False)
            raise
        parts.window.note_refit(int(time.time() * 1000), enough=True)
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
def _alone(directory: Path, stop: Callable[[], bool]) -> Iterator[None]:
    """One trainer at a time on this directory, whatever its stack; a second one waits, and says so."""
    lock = FileLock(directory / _LOCK)
    with _writable(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another trainer is at work in %s, waiting for it to end", directory)
            while not lock.is_locked:
                try:
                    lock.acquire(timeout=1)
                except Timeout:
                    if stop():
                        raise Stopped("stopped while another trainer was at work") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writable(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WindowUnusable(
            f"{directory} cannot be written ({error.strerror}); let this program write there, or name another "
            "directory in KINDRED_TRAINER_DIRECTORY"
        ) from error


def _turn(settings: TrainerSettings) -> Turn:
    topic = topic_name(MODEL_RELEASES, settings.namespace)
    return Turn(settings.kafka(), f"{settings.group}-trainer", topic, f"{CLIENT}@{socket.gethostname()}-{os.getpid()}")


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


def _announce(
    settings: TrainerSettings, turn: Turn, judged_against: ReleaseAnnouncement | None, told: ReleaseAnnouncement
) -> None:
    """Raises TurnLost where another trainer, or an operator, has acted meanwhile."""
    topic = topic_name(MODEL_RELEASES, settings.namespace)
    now = _announced(settings)
    if now != judged_against:
        raise TurnLost(
            f"{now.release if now else 'nothing'} is announced by now, and {told.release} was judged against what "
            "stood before: nothing is announced. `kindred model promote` announces it by hand; a new refit judges it "
            "again"
        )
    transactions = _has_transactions(settings)
    options = {"transactional_id": turn.group, "transaction_timeout_ms": TRANSACTION_MS} if transactions else {}
    producer = asked(
        lambda: kafka.KafkaProducer(
            **settings.kafka().arguments(), **options, acks="all", client_id=CLIENT, kafka_client=making_no_topics
        ),
        "producer",
    )
    with closing(producer):
        if transactions:
            asked(producer.init_transactions, "begin transactions")
            asked(lambda: turn.show(partial(announce_in_turn, producer, topic, told)), "announce")
        else:
            asked(turn.commit, "turn")
            asked(lambda: announce(producer, topic, told), "announce")


def _has_transactions(settings: TrainerSettings) -> bool:
    access = settings.kafka().arguments()
    admin = asked(lambda: kafka.KafkaAdminClient(**access, request_timeout_ms=CALL_TIMEOUT_MS), "admin")
    with closing(admin):
        cluster = asked(admin.describe_cluster, "describe cluster")
        return abilities(
            cluster["cluster_id"], {int(key) for key in asked(admin.api_versions, "api versions")}
        ).transactions


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
