"""The composition root of the trainer: the only file here that names Kafka and a real encoder."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from model.encoder.load import load_encoder
from model.errors import ReleaseRefused
from model.fetch import fetch, name_under
from model.release import Release, load_release, release_encoder_files, write_builtin
from model.transfer_weights import TransferWeights
from model.update import DAY_MS
from schemas.announcement import ReleaseAnnouncement
from schemas.topics import ITEMS, MODEL_RELEASES, RECOMMENDATIONS, USER_TEXT, topic_name
from trainer.adapt import Adapting
from trainer.announcer import Announcer
from trainer.errors import Stopped, TooLittleData, WindowUnusable
from trainer.fit.blend import BlendSettings
from trainer.fit.encoder import EncoderSettings
from trainer.fit.head import HeadSettings
from trainer.fit.pretrain import PretrainSettings
from trainer.follow import Figures, Follower, Span, Topics
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

Tell = Callable[[int, int, int], None]
"""Step, done, of."""

CLIENT = "kindred-trainer"
HOUR_MS = 3_600_000
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


@contextmanager
def following(settings: TrainerSettings, stopped: Callable[[], bool]) -> Iterator[Callable[[], Figures]]:
    """What looks what answers led to, as long as this is open. stopped: whether to read no more.

    Raises BrokerUnavailable and BrokerRefused, here and whenever it looks.
    """
    with ExitStack() as stack:
        topics = Topics(
            *(
                stack.enter_context(closing(_log(settings, topic_name(topic, settings.namespace))))
                for topic in (USER_TEXT, RECOMMENDATIONS, MODEL_RELEASES)
            )
        )
        yield Follower(
            topics,
            Span(
                horizon_ms=int(settings.online_horizon_hours * HOUR_MS),
                window_ms=int(settings.online_days * DAY_MS),
                newest=settings.online_events,
            ),
            secret=settings.user_key_secret.get_secret_value().encode(),
            clock=lambda: int(time.time() * 1000),
            stopped=stopped,
        ).look


def run_once(settings: TrainerSettings, tell: Tell, stop: Callable[[], bool]) -> Refit:
    """One refit with these settings, in this trainer's turn. tell: step, done, of. stop: whether to wait no longer.

    Raises TrainerError's and ModelError's kin, BrokerUnavailable and BrokerRefused.
    """
    place, access, topic = settings.release_place, settings.kafka(), topic_name(MODEL_RELEASES, settings.namespace)
    announcer = Announcer(access, topic, CLIENT)
    with ExitStack() as stack:
        stack.enter_context(_alone(settings.trainer_directory, stop))
        name = f"{CLIENT}@{socket.gethostname()}-{os.getpid()}"
        turn = stack.enter_context(closing(Turn(access, f"{settings.group}.trainer", topic, name)))
        turn.take(stop)
        last = announcer.standing()
        release = _current(settings, last)
        parts = Parts(
            window=stack.enter_context(Window(settings.trainer_directory / _WINDOW)),
            texts=stack.enter_context(closing(_log(settings, topic_name(USER_TEXT, settings.namespace)))),
            items=stack.enter_context(closing(_log(settings, topic_name(ITEMS, settings.namespace)))),
            serving=release,
            announced=last,
            place=place,
            announce=partial(announcer.announce, turn, last),
            tell=_failing(settings.fail_point, tell),
            adapting=adapting_of(settings, release),
        )
        try:
            done = refit(parts, _options(settings), datetime.now(UTC))
        except TooLittleData:
            parts.window.note_refit(int(time.time() * 1000), enough=False)
            raise
        parts.window.note_refit(int(time.time() * 1000), enough=True)
        for why in done.made.adapted.dropped if done.made is not None else ():
            log.info("of an adapted encoder: %s", why)
        for gone in retain(place, settings.keep_releases, announcer.standing()):
            log.info("the old release %s is removed", gone)
        return done


def _options(settings: TrainerSettings) -> Options:
    parts = settings.fit.split(",")
    return Options(
        secret=settings.user_key_secret.get_secret_value().encode(),
        reach=Reach(settings.window_days, settings.window_events),
        resume_ms=int(settings.refit_hours * HOUR_MS),
        least=Least(settings.least_events, settings.least_users, settings.least_users_with_two_items),
        blend=BlendSettings() if "blend" in parts else None,
        head=HeadSettings() if "head" in parts else None,
        device=settings.device,
        folds=settings.folds,
        warm_up=settings.warm_up,
        seed=settings.seed,
        user_ttl_ms=int(settings.user_ttl_days * DAY_MS),
        limits=limits(settings),
        directory=settings.trainer_directory,
    )


def _failing(where: str | None, tell: Tell) -> Tell:
    """The fault tests' way to die, or to freeze, in a numbered step; nothing otherwise."""
    if where is None:
        return tell
    step, count = map(int, where.split(":")[:2])
    end = signal.SIGSTOP if where.endswith(":stop") else signal.SIGKILL
    told: Counter[int] = Counter()

    def failing(now: int, done: int, of: int) -> None:
        tell(now, done, of)
        told[now] += 1
        if now == step and told[now] == count:
            os.kill(os.getpid(), end)

    return failing


def limits(settings: TrainerSettings) -> Limits:
    """What the gate allows."""
    return Limits(
        group_margin=settings.group_margin,
        latency_margin=settings.latency_margin,
        release_bytes=int(settings.release_megabytes * 1e6),
        seed=settings.seed,
    )


def adapting_of(settings: TrainerSettings, release: Release) -> Adapting | None:
    """How the encoder of the release in service is to be fitted; None where `fit` names no part of it."""
    parts = settings.fit.split(",")
    if not {"pretrain", "encoder"} & set(parts):
        return None
    pretrain, encoder = PretrainSettings(), EncoderSettings()
    minutes = settings.fit_minutes
    return Adapting(
        files=release_encoder_files(release.path, release.manifest, settings.cache),
        # By torch: nothing is converted for an encoder that may be dropped.
        load=lambda path: load_encoder(str(path), device=settings.device, backend="torch", cache=settings.cache),
        pretrain=replace(pretrain, pace=replace(pretrain.pace, minutes=minutes)) if "pretrain" in parts else None,
        encoder=replace(encoder, pace=replace(encoder.pace, minutes=minutes)) if "encoder" in parts else None,
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


def _log(settings: TrainerSettings, topic: str) -> KafkaLog:
    return KafkaLog(access=settings.kafka(), topic=topic, client_id=CLIENT)


def _current(settings: TrainerSettings, last: ReleaseAnnouncement | None) -> Release:
    """The release in service: the announced one; where it is refused the one before it, as far as that goes; the
    built-in one where there is none."""
    place = settings.release_place
    load = partial(load_release, cache=settings.cache, device=settings.device, backend=settings.backend)
    if last is not None:
        try:
            return load(fetch(place, name_under(place, last.uri), last.sha256).path)
        except ReleaseRefused as refused:
            log.warning("the announced release %s is not what serves: %s", last.release, refused)
        for name in last.before:
            try:
                return load(fetch(place, name).path)
            except ReleaseRefused as refused:
                log.warning("nor is %s, which was announced before it: %s", name, refused)
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
