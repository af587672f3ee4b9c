"""Everything of a worker that belongs to one space: nothing of one lane ever meets a vector of another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from model.encoder.base import Encoder
from model.head import Head
from model.index import Index
from worker.catalogue import Catalogue
from worker.serving import Serving
from worker.store.base import Store


@dataclass(frozen=True, slots=True)
class Lane:
    """serving: the release that it begins with. encode_lock: the encoder computes one thing at a time. make_index: an
    empty one with this head. catalogue: None where there is no `items` topic to follow."""

    serving: Serving
    encoder: Encoder
    encode_lock: threading.Lock
    store: Store
    make_index: Callable[[Head], Index]
    catalogue: Catalogue | None

    def close(self) -> None:
        """Whether it was in service or not."""
        if self.catalogue is not None:
            self.catalogue.stop()
        self.store.close()
