"""What trainer/fit raises.

FitError
├── NothingToFit        the data cannot carry this part; the text says what is missing
└── CheckpointsDiffer   the processes of one fit do not see the same checkpoint
"""

from __future__ import annotations


class FitError(Exception):
    """Base of what trainer/fit raises."""


class NothingToFit(FitError):
    """No label and no pair of texts to learn from, or nobody to measure on. The rest of the release goes on without."""


class CheckpointsDiffer(FitError):
    """One process would go on from another epoch than the first one."""
