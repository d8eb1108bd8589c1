"""What a run remembers: the clock, the records of every loss in memory, and when they go to the log."""

from nectargan_core.history._atomic import at_once, prepared
from nectargan_core.history._lm_history import LMHistory
from nectargan_core.history._rank import rank_and_world_size
from nectargan_core.history._ranks import raise_nonfinite, sums_over_ranks
from nectargan_core.history._recorder import OnNonFinite, Recorder
from nectargan_core.history._series import Series, add_together, check_real, is_real, mean_of, no_value, single
from nectargan_core.history._sums import Sums

__all__ = [
    "LMHistory",
    "OnNonFinite",
    "Recorder",
    "Series",
    "Sums",
    "add_together",
    "at_once",
    "check_real",
    "is_real",
    "mean_of",
    "no_value",
    "prepared",
    "raise_nonfinite",
    "rank_and_world_size",
    "single",
    "sums_over_ranks",
]
