"""How often each fault is repeated: a few times in `make test-fault`, in full in `make soak`.

KINDRED_SOAK=1 asks for the full counts, and nothing else does.
"""

from __future__ import annotations

import os
from typing import Final

from tests.broker_servers import KIND

SOAK: Final = os.environ.get("KINDRED_SOAK") == "1"

KILLS_A_STEP: Final = 20 if SOAK else 3 if KIND == "apache" else 1
"""One on the embedded broker, where each costs a session timeout and two rebalances of 7 to 10 s."""
FILLING_STEPS: Final = (13, 14, 15, 16, 17, 18) if KIND == "apache" else (15,)
"""At which a worker that back-fills is killed, one after the other: see KINDRED_FAIL_POINT."""
KILLS_OF_TWO: Final = 20 if SOAK else 2
REBALANCES: Final = 100 if SOAK else 10
ZOMBIES: Final = 5 if SOAK else 1
"""Of each of three steps."""
BROKER_KILLS: Final = 10 if SOAK else 2
NODE_KILLS: Final = 6 if SOAK else 2
NODE_AWAY_S: Final = 60 if SOAK else 8
REDIS_KILLS: Final = 10 if SOAK else 2
"""Of each kind of persistence."""
LOSSES: Final = 10 if SOAK else 2
"""Of a shard, of everything, of the last seconds."""
CUTS: Final = 10 if SOAK else 2
CLOCK_STEPS: Final = 10 if SOAK else 4
MUTATIONS: Final = 10_000 if SOAK else 1_000
MUTATIONS_SENT: Final = 1_000 if SOAK else 200
POISON: Final = 5_000 if SOAK else 500
TERMS: Final = 10 if SOAK else 2
EOS_KILLS: Final = 50 if SOAK else 10
REAL_ENCODER_KILLS: Final = 8 if SOAK else 1

START_S: Final = 40
"""A test's share of starting and stopping servers, on a busy machine."""


def deadline(repetitions: int, seconds: float) -> float:
    """Seconds that a test may take which repeats something that takes so long on a busy machine."""
    return START_S + 180 + repetitions * seconds
