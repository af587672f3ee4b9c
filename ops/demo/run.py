"""`kindred demo`: an embedded stack in a temporary directory, real posts in, a screen of recommendations out.

The supervisor runs in a thread of this process, so that its watchdog ends the stack whatever becomes of the demo.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.cli import render
from ops.cli.ask import ask
from ops.cli.target import Target, settings
from ops.demo.feed import Fed, feed_posts, load_posts
from ops.demo.prequential import Given, judge
from ops.demo.refit import Refit
from ops.errors import NoAnswer
from ops.stack.endpoints import Endpoints
from ops.stack.plan import StackPlan
from ops.stack.supervisor import Supervisor
from schemas.access import KafkaAccess
from schemas.recommendation import Recommendation
from schemas.settings import ReleasePlace
from worker.settings import WorkerSettings

SHOWN: Final = 6
QUESTION: Final = "Which hops give a citrus aroma, and when should I add them to my home brew?"


def run(*, workers: int, limit: int | None, seconds: float) -> None:
    """Raises what keeps the stack from starting; ends everything first, also on Ctrl-C."""
    console = Console()
    given = settings(WorkerSettings)
    posts = load_posts(limit)
    console.print(
        f"[bold]Kindred[/]: {len(posts)} real posts of five Stack Exchange sites go in; every newcomer's first "
        f"{given.newcomer_events} posts are each answered with recommendations. On the way the trainer refits the "
        "model from the log, and the workers exchange it.\n"
        "Posts: CC BY-SA, see ops/demo/ATTRIBUTION.md.\n",
        highlight=False,
    )
    with tempfile.TemporaryDirectory(prefix="kindred-demo-") as directory, _running(
        StackPlan(Path(directory), workers=workers, namespace=given.namespace), console
    ) as endpoints:  # fmt: skip
        target = Target(
            kafka=KafkaAccess(endpoints.kafka),
            redis_url=endpoints.redis,
            group=given.group,
            namespace=given.namespace,
            releases=ReleasePlace(Path(directory) / "releases"),
            metrics=endpoints.metrics,
            data_dir=Path(directory),
        )
        refit = Refit(Path(directory), console.width)
        try:
            fed = feed_posts(target, posts, given.newcomer_events, seconds, refit, console)
        finally:
            refit.end()
        _show_newcomers(console, fed)
        _show_refit(console, refit)
        _show_figures(console, fed, refit)
        _show_question(console, target)
    _show_next(console)


@contextmanager
def _running(plan: StackPlan, console: Console) -> Iterator[Endpoints]:
    """A stack for the time of the block; SIGTERM and Ctrl-C leave the block first."""
    ready, ended = threading.Event(), threading.Event()
    found: list[Endpoints] = []
    failed: list[BaseException] = []
    supervisor = Supervisor(plan, lambda text: console.print(escape(text), style="dim", highlight=False))

    def supervise() -> None:
        def on_ready(endpoints: Endpoints) -> None:
            found.append(endpoints)
            ready.set()

        try:
            supervisor.run(on_ready)
        except BaseException as error:
            failed.append(error)
        finally:
            ended.set()
            ready.set()

    before = signal.signal(signal.SIGTERM, _interrupt)
    thread = threading.Thread(target=supervise, name="supervisor")
    thread.start()
    try:
        with console.status(f"Starting broker, Redis and {plan.workers} workers, loading the encoder …"):
            # In pieces: a wait without end would not let Ctrl-C through.
            while not ready.wait(0.2):
                pass
        if found:
            yield found[0]
    except KeyboardInterrupt:
        console.print("Interrupted; ending everything.")
        raise
    finally:
        # The stack ends within seconds; an impatient second Ctrl-C must not leave a part of it behind.
        calm = signal.signal(signal.SIGINT, signal.SIG_IGN)
        supervisor.stop(now=not found or ended.is_set())
        thread.join()
        signal.signal(signal.SIGINT, calm)
        signal.signal(signal.SIGTERM, before)
    if failed:
        raise failed[0]


def _interrupt(_number: int, _frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt


def _show_newcomers(console: Console, fed: Fed) -> None:
    console.print("\n[bold]Newcomers, and what they were given first:[/]\n")
    console.print(render.newcomers(_varied(list(fed.answers.values()), SHOWN)))


def _varied(answers: list[Recommendation], count: int) -> list[Recommendation]:
    """The newest answers, one a leading interest while there are others."""
    chosen: dict[str, Recommendation] = {}
    rest: list[Recommendation] = []
    for answer in reversed(answers):
        leading = answer.interests[0].label.split("/")[0] if answer.interests else ""
        if leading in chosen or not answer.items:
            rest.append(answer)
        else:
            chosen[leading] = answer
    return [*chosen.values(), *rest][:count]


def _show_refit(console: Console, refit: Refit) -> None:
    """The trainer's own words; where it failed, its last ones."""
    console.print("\n[bold]Refitted from the log, while posts went on flowing:[/]\n", highlight=False)
    if refit.told:
        console.print(refit.told.rstrip(), highlight=False, markup=False)
    else:
        last = refit.log.rstrip().splitlines()[-1:]
        console.print(f"  It did not end: {' '.join(last) or 'there were too few posts to begin'}", style="yellow")


def _show_figures(console: Console, fed: Fed, refit: Refit) -> None:
    console.print("\n[bold]Did they later write about one of the ten items?[/]", highlight=False)
    table = Table("hit@10", "Kindred", "most popular items", "same questions", box=None, pad_edge=False)
    releases = list(dict.fromkeys(answer.release for answer in fed.answers.values()))
    for release in (None, *(releases if len(releases) > 1 else ())):
        answers = {
            key: Given(fed.sent_by[key], [item.item_id for item in answer.items])
            for key, answer in fed.answers.items()
            if release in (None, answer.release)
        }
        score = judge(fed.posts, answers)
        figures = (f"{score.hit_rate:.3f}", f"{score.popular_rate:.3f}", str(score.questions))
        table.add_row("all answers" if release is None else escape(release), *figures)
    console.print(table)
    console.print(
        "Only by posts that were sent after the answer was there. They come thousands of times faster than they were "
        "written, and most of what people take is new: `kindred evaluate` asks one newcomer at a time.",
        highlight=False,
        markup=False,
    )
    console.print(
        f"{len(fed.posts)} posts and {len(fed.answers)} answers in {fed.seconds:.0f} s; "
        f"for {refit.seconds:.0f} s of them posts were held back, while the trainer worked",
        highlight=False,
    )
    if fed.missing:
        console.print(f"{fed.missing} answers were still to come when the time was over.", style="yellow")


def _show_question(console: Console, target: Target) -> None:
    console.print(f"\n[bold]A newcomer on the spot:[/] “{QUESTION}”\n", highlight=False)
    try:
        answer, latency = ask(target, QUESTION, item_id=None, user_id="demo-newcomer", seconds=10.0)
    except NoAnswer as error:
        console.print(f"{error.text}", style="yellow")
        return
    console.print(render.recommendation(answer))
    console.print(f"\nAnswered in {latency * 1000:.0f} ms.", highlight=False)


def _show_next(console: Console) -> None:
    console.print(
        "\nEverything has ended; nothing is left running. Now a stack of your own:\n"
        "  kindred up --detach --workers 2\n"
        "  kindred produce ops/demo/stackexchange.jsonl.gz --field occurred_at=ts\n"
        '  kindred ask "how do I teach fractions to adults?"\n'
        "  kindred watch          kindred doctor          kindred down",
        highlight=False,
        markup=False,
    )
