"""A refit in words, for people: the verdict and what stands above each picture. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trainer.calibration import Calibration
from trainer.gate import CANDIDATE, CURRENT, RAW_KNN, Limits
from trainer.interests import Map
from trainer.judge import LENGTH, decisive
from trainer.page.facts import TITLES
from trainer.recipe import Refit
from trainer.release import Made


def verdict(done: Refit, made: Made) -> Iterator[str]:
    numbers = done.verdict.numbers
    part, metric = decisive(made.validated)
    asked = len(part.user)
    against = CURRENT if f"{metric}.{CURRENT}" in numbers else RAW_KNN
    if "gain.low" in numbers:
        mine, theirs = numbers[f"{metric}.{CANDIDATE}"], numbers[f"{metric}.{against}"]
        whose = "of the release in service" if against == CURRENT else "of raw kNN, which a first release has to beat"
        better = f" ({numbers['gain.mean'] / theirs:+.1%})" if theirs > 0 else ""
        yield (
            f"Over {asked:,} questions of newcomers from whom it had not learned, the candidate's {TITLES[metric]} is "
            f"{mine:.4f} against {theirs:.4f} {whose}{better}. With 95\u00a0% confidence the difference lies between "
            f"{numbers['gain.low']:+.4f} and {numbers['gain.high']:+.4f}."
        )
    if done.verdict.accepted:
        yield (
            "It is accepted and has been announced to the workers."
            if done.announced
            else "It is accepted; it had been announced before."
        )
    else:
        yield "It is rejected, and what is in service stays. What speaks against it:"


def fitness(numbers: Mapping[str, float], limits: Limits) -> Iterator[dict[str, str]]:
    """Rows of the checks that were measured."""
    for name, key, found, allowed in (
        ("golden vectors: cosine to what they must be", "golden.cosine", "{:.5f}", f"at least {limits.golden_cosine}"),
        ("golden interests: length off by", "golden.length", "{:.1e}", f"at most {LENGTH}"),
        (
            "time of an answer ÷ that of the release in service",
            "latency.ratio",
            "{:.2f}",
            f"at most {1 + limits.latency_margin:.2f}",
        ),
    ):
        if key in numbers:
            yield {"name": name, "found": found.format(numbers[key]), "allowed": allowed}
    if "size.bytes" in numbers:
        yield {
            "name": "weights",
            "found": f"{numbers['size.bytes'] / 1e6:,.2f} MB" if numbers["size.bytes"] else "none but the blend's",
            "allowed": f"at most {limits.release_bytes / 1e6:,.0f} MB",
        }


def standing(done: Refit) -> str:
    return "announced to the workers" if done.announced else "not announced"


def calibrated(found: Calibration) -> tuple[str, str]:
    """What stands above and below the curve."""
    least, most = found.bins[0], found.bins[-1]
    how = "says too much" if _signed(found) > 0 else "says too little"
    judged = "says what is so" if found.error < 0.05 else f"{how}: on average by {abs(_signed(found)):.2f}"
    order = (
        "surer answers do hit more often"
        if found.order > 0.05
        else "surer answers hit less often"
        if found.order < -0.05
        else "surer answers do not hit more often"
    )
    above = (
        f"Of the least sure answers ({least.confidence:.2f}) {least.hits:.0%} had a hit among ten items, of the surest "
        f"({most.confidence:.2f}) {most.hits:.0%}: {order} (rank correlation {found.order:+.2f}). Read as "
        f"the probability of a hit, confidence {judged}; its mean distance from the share of hits is {found.error:.3f}."
    )
    return above, "On the dashed line confidence is the share of hits. Upright lines: 95 % intervals (Wilson)."


def learning(made: Made) -> Iterator[str]:
    adapted = made.adapted
    if adapted.kept is not None:
        yield (
            "The encoder was adapted, and users whom it had not seen gain by it: the release has a space of its own, "
            "which workers fill from the log while they answer from the old one."
        )
    elif adapted.fits or adapted.dropped:
        yield f"The encoder was adapted and is not used: {'; '.join(adapted.dropped)}."
    if made.tried is None:
        yield "No head was learned: it was not asked for, or the window could not carry one."
        yield "The head in service stays." if adapted.kept is None else "A head in service is none for another encoder."
    else:
        fate = "kept" if made.head is not None else "dropped afterwards (see the verdict)"
        yield (
            f"The head learned for {len(made.tried.epochs) - 1} epochs and stopped: {made.tried.stopped}. Epoch "
            f"{made.tried.chosen} served held-out users best; the head was {fate}."
        )
    if made.blend is None:
        yield "No blend was fitted: it was not asked for, or too few questions had an answer. The weights stay."
    else:
        yield (
            f"The blend learned from {made.blend.questions:,} questions; epoch {made.blend.chosen} ranks the latest of "
            "them best."
        )


def mapped(found: Map, unnamed: int) -> tuple[str, str]:
    """What stands above and below the map."""
    dot = f"A dot is one of {len(found.people):,} users"
    shown = f"{found.explained:.0%}"
    if not found.names:
        above = f"{dot}. The window has no label of three users or more to name."
        return above, f"The two directions in which people differ most: {shown} of all differences."
    left = f" {unnamed} names found no place." if unnamed else ""
    above = (
        f"{dot}, in the colour of their most frequent label where many have it; a ring is the middle of "
        f"all who have a label ({len(found.names)} of them)."
    )
    return above, f"The two directions that tell labels apart best: {shown} of what lies between the centres.{left}"


def blended(made: Made) -> str:
    if made.blend is None:
        return "The weights of the release in service stay as they are."
    return (
        "How far each signal is believed in scoring an item, by the part of the evidence that it belongs to. Weights "
        "are 0 or more, and a refit holds them near the blend as shipped."
    )


def _signed(found: Calibration) -> float:
    """Mean confidence less share of hits."""
    count = sum(each.count for each in found.bins)
    return sum(each.count * (each.confidence - each.hits) for each in found.bins) / count
