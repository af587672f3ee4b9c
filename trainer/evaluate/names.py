"""What contestants and metrics are called before people; their stable names are for machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trainer.evaluate.answers import (
    COOCCURRENCE,
    DECAYED,
    EASE,
    KINDRED,
    MOST_FREQUENT,
    POPULARITY,
    RAW,
    REFIT,
    TFIDF,
)
from trainer.scores import HIT, LABEL, NDCG

SAID: Final[Mapping[str, str]] = {
    KINDRED: "Kindred",
    REFIT: "refitted",
    POPULARITY: "popularity",
    DECAYED: "recent popularity",
    TFIDF: "TF-IDF kNN",
    RAW: "raw kNN",
    COOCCURRENCE: "co-occurrence",
    EASE: "EASE",
    MOST_FREQUENT: "most frequent",
    HIT: "hit@10",
    NDCG: "nDCG@10",
    LABEL: "label accuracy",
}
