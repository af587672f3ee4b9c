"""Starts the processes of a stack, keeps them running, and ends them: broker and Redis, then the workers.

    starting ── all workers ready ──► serving ── stop() ──► ending
        │                                │
        └── a worker cannot start ───────┴── no worker is left that a restart would help ──► failed

A process that dies is started again after a back-off of at most five seconds, on the port it had, so that
endpoints.json stays true. A broker that forgets on exit comes back only together with an emptied Redis and new workers;
one that keeps its log comes back to both as they are. Every piece of news goes to `say`. It does not know what a worker
does, only its exit code and `/readyz`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from ops.errors import DataDirInUse, StackFailed
from ops.stack import brokers, endpoints, ports, processes, programs, servers
from ops.stack.apache import Node
from ops.stack.brokers import ApacheBroker, Broker, EmbeddedBroker
from ops.stack.child import LOG_DIRECTORY, Child
from ops.stack.leash import Leash
from ops.stack.plan import StackPlan, make_directory
from worker.errors import FORCED_EXIT

LOCK: Final = "lock"
TICK_SECONDS: Final = 0.1
READINESS_SECONDS: Final = 0.25
REDIS_SECONDS: Final = 15.0
"""Redis answers within milliseconds; while it reads a long append-only file it takes a while."""

START_DEATHS: Final = 3
"""A worker that dies so often before the stack was ever ready will not get better."""

OPERATOR_NEEDED: Final = frozenset(range(64, 80)) - {FORCED_EXIT}
"""Exit codes of a worker that a restart cannot cure; the last line of its log names the remedy."""


class Supervisor:
    """One stack. `run` is called once, from the thread that may be signalled; `stop` from anywhere."""

    def __init__(self, plan: StackPlan, say: Callable[[str], None]) -> None:
        self.plan = plan
        self._say = say
        self._stop = threading.Event()
        self._stop_now = threading.Event()
        taken: set[int] = set()
        kafka_port = ports.claim(plan.kafka_port, "Kafka", taken)
        redis_port = ports.claim(plan.redis_port, "Redis", taken)
        first = plan.metrics_port
        metrics = [ports.claim(first and first + i, "metrics", taken) for i in range(plan.workers)]
        self.kafka = f"{ports.HOST}:{kafka_port}"
        self.redis_url = f"redis://{ports.HOST}:{redis_port}/0"
        self._redis_directory = plan.data_dir / "redis"
        self._kafka: Broker
        if plan.kafka_libs is None:
            self._kafka = EmbeddedBroker(kafka_port)
        else:
            controller_port = ports.claim(0, "Kafka controller", taken)
            self._kafka = ApacheBroker(plan.kafka_libs, Node(plan.data_dir / "kafka", kafka_port, controller_port))
        self._broker = self._child(self._kafka.program)
        self._redis = self._child(programs.redis(redis_port, self._redis_directory))
        self._workers = [
            self._child(
                programs.worker(
                    number,
                    plan.worker_command,
                    self.kafka,
                    self.redis_url,
                    port,
                    plan.data_dir / "releases",
                    keeps_slots=self._kafka.keeps_log,
                )
            )
            for number, port in enumerate(metrics)
        ]
        for directory in (plan.data_dir / LOG_DIRECTORY, self._redis_directory):
            make_directory(directory)
        self._leash: Leash | None = None
        self._serving = False

    def _child(self, program: programs.Program) -> Child:
        return Child(program, self.plan.data_dir / LOG_DIRECTORY / f"{program.name}.log")

    def stop(self, *, now: bool = False) -> None:
        """End the stack: workers drain; with now, nothing waits."""
        if now:
            self._stop_now.set()
        self._stop.set()

    def run(self, on_ready: Callable[[endpoints.Endpoints], None]) -> None:
        """Until `stop`; on_ready is called once, when topics exist and every worker is ready.

        Raises DataDirInUse, MissingExtra and StackFailed; whatever was started has ended when it returns or raises.
        """
        with self._lock():
            self._end_leftovers()
            try:
                self._start()
                while not self._stop.wait(TICK_SECONDS):
                    self._supervise()
                    if not self._serving and self._all_ready():
                        self._serving = True
                        on_ready(self.endpoints())
            finally:
                self._end()

    def endpoints(self) -> endpoints.Endpoints:
        """Where everything is and what runs at this moment."""
        running = {record.name: record.pid for record in self._records()}
        return endpoints.Endpoints(
            kafka=self.kafka,
            redis=self.redis_url,
            metrics=tuple(
                f"http://{ports.HOST}:{worker.program.port}/metrics" for worker in self._workers if not worker.gave_up
            ),
            pids=running | {processes.SUPERVISOR: os.getpid()},
        )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        lock = FileLock(self.plan.data_dir / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise in_use(self.plan.data_dir) from None
        try:
            yield
        finally:
            lock.release()

    def _end_leftovers(self) -> None:
        """Processes of a stack whose supervisor and watchdog were both killed: the lock is ours now."""
        left = [record for record in processes.read(self.plan.data_dir) if processes.alive(record)]
        if left:
            self._say(f"Ending processes of an earlier stack that crashed: {', '.join(r.name for r in left)}.")
            processes.end(left)
        processes.forget(self.plan.data_dir)

    def _start(self) -> None:
        for child in (self._broker, self._redis, *self._workers):
            if child.log.exists():
                child.log.replace(child.log.with_suffix(".log.1"))
        self._leash = Leash(self.plan.data_dir)
        self._launch(self._redis)
        log_id = self._kafka.prepare()
        self._launch(self._broker)
        self._await_server(self._redis)
        if not brokers.belongs(self._redis_directory, log_id):
            if servers.empty_redis(self.redis_url):
                self._say("What an earlier run left in Redis belonged to a log that is gone, and was emptied.")
            brokers.mark(self._redis_directory, log_id)
        self._await_server(self._broker)
        servers.create_topics(self.kafka, self.plan.namespace)
        for worker in self._workers:
            self._launch(worker)

    def _launch(self, child: Child) -> None:
        child.start(time.monotonic())
        self._publish()

    def _publish(self) -> None:
        """Make the record, the watchdog's copy of it and endpoints.json say what runs now."""
        records = self._records()
        own = processes.known(processes.SUPERVISOR, os.getpid())
        watchdog = [] if self._leash is None else self._leash.hold(records)
        processes.write(self.plan.data_dir, [*records, own, *watchdog])
        endpoints.write(self.plan.data_dir, self.endpoints())

    def _records(self) -> list[processes.Known]:
        children = (*self._workers, self._broker, self._redis)
        return [child.record for child in children if child.record is not None]

    def _await_server(self, child: Child) -> None:
        """Raises StackFailed when broker or Redis does not answer in time."""
        seconds = REDIS_SECONDS if child is self._redis else self._kafka.start_seconds
        deadline = time.monotonic() + seconds
        while not servers.answers(child.program, self.redis_url):
            code = child.exit_code()
            if code is not None or time.monotonic() > deadline or self._stop.is_set():
                what = f"ended with exit code {code}" if code is not None else f"did not answer in {seconds:.0f} s"
                raise StackFailed(f"The stack's {child.program.name} {what}.", child.log_end())
            time.sleep(0.01)

    def _supervise(self) -> None:
        now = time.monotonic()
        if self._leash is not None and not self._leash.alive():
            self._say("The watchdog of the stack had died; started another.")
            self._leash = Leash(self.plan.data_dir)
            self._publish()
        self._restart_if_due(self._redis, now)
        if self._kafka.keeps_log:
            self._restart_if_due(self._broker, now)
        else:
            if self._notice_death(self._broker, now):
                self._say("The broker forgets on exit, so Redis will be emptied and the workers started anew with it.")
                self._kill_workers()
            if self._broker.process is None:
                if now >= self._broker.due and self._redis.process is not None:
                    self._restart_forgetful_broker()
                return
        for worker in self._workers:
            self._restart_if_due(worker, now)
        self._watch_readiness(now)
        if all(worker.gave_up for worker in self._workers):
            worker = self._workers[0]
            raise StackFailed("No worker is left that a restart would help.", worker.last_word())

    def _notice_death(self, child: Child, now: float) -> bool:
        """True when it has just been found dead; its restart is then due after the back-off."""
        code = child.exit_code()
        if code is None:
            return False
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        name = child.program.name
        child.reaped()
        if child in self._workers and code in OPERATOR_NEEDED:
            child.gave_up = True
            if not self._serving:
                raise StackFailed(f"{name} {how}, which a restart cannot cure.", child.last_word())
            self._say(f"{name} {how}, which a restart cannot cure. {child.last_word()}")
        else:
            pause = child.backoff.died(now - child.started)
            child.due = now + pause
            if not self._serving and child.backoff.deaths >= START_DEATHS:
                raise StackFailed(f"{name} {how}, {START_DEATHS} times before the stack was ready.", child.log_end())
            self._say(f"{name} {how}; starting it again in {pause:.1f} s (log: {child.log}).")
        self._publish()
        return True

    def _restart_if_due(self, child: Child, now: float) -> None:
        self._notice_death(child, now)
        if child.process is None and not child.gave_up and now >= child.due:
            self._launch(child)
            self._say(f"{child.program.name} is running again (pid {child.record.pid if child.record else '?'}).")

    def _restart_forgetful_broker(self) -> None:
        """Redis first, emptied; then the broker with its topics; then the workers."""
        try:
            self._await_server(self._redis)
            servers.empty_redis(self.redis_url)
            self._launch(self._broker)
            self._await_server(self._broker)
            servers.create_topics(self.kafka, self.plan.namespace)
        except StackFailed as error:
            self._say(f"{error.text} Trying again.")
            self._broker.signal(signal.SIGKILL)
            self._broker.due = time.monotonic() + self._broker.backoff.died(0.0)
            return
        self._say("The broker is running again with empty topics; Redis was emptied.")
        for worker in self._workers:
            worker.due, worker.gave_up = 0.0, False

    def _kill_workers(self) -> None:
        """Nothing that they hold is worth draining: the log it came from is gone."""
        for worker in self._workers:
            worker.signal(signal.SIGKILL)
        for worker in self._workers:
            worker.wait(5.0)
            worker.reaped()
        self._publish()

    def _watch_readiness(self, now: float) -> None:
        for worker in self._workers:
            if worker.ready or worker.process is None or now < worker.due:
                continue
            worker.due = now + READINESS_SECONDS
            worker.ready, why = worker.readiness()
            if worker.ready:
                self._say(f"{worker.program.name} is ready after {now - worker.started:.1f} s.")
            elif not self._serving and now - worker.started > self.plan.start_seconds:
                raise StackFailed(
                    f"{worker.program.name} was not ready within {self.plan.start_seconds:.0f} s: {why}.",
                    worker.log_end(),
                )

    def _all_ready(self) -> bool:
        return all(worker.ready for worker in self._workers)

    def _end(self) -> None:
        """Workers first: they need broker and Redis to drain."""
        deadline = time.monotonic() + processes.DRAIN_SECONDS
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        while not all(worker.wait(0.0) for worker in self._workers):
            if time.monotonic() > deadline or self._stop_now.wait(0.05):
                for worker in self._workers:
                    worker.signal(signal.SIGKILL)
        for server in (self._broker, self._redis):
            server.signal(signal.SIGTERM)
        for server in (self._broker, self._redis):
            if not server.wait(5.0):
                server.signal(signal.SIGKILL)
                server.wait(5.0)
        for child in (*self._workers, self._broker, self._redis):
            child.reaped()
        if self._leash is not None:
            self._leash.release()
        processes.forget(self.plan.data_dir)


def in_use(data_dir: Path) -> DataDirInUse:
    return DataDirInUse(
        f"{data_dir} belongs to a stack that is running.",
        f"End it with `kindred down --data-dir {data_dir}`, or give another directory with --data-dir.",
    )
