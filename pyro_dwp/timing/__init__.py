"""What a step, a prediction or a preparation costs: seconds, ratios, memory, and where the time goes.

Nothing here is about this library's networks. What is measured is a `Workload`; those of `run/time_steps.py` are in benchmarks/.
"""

from pyro_dwp.timing.clock import interleave, median_seconds, seconds_of
from pyro_dwp.timing.measure import Measured, measure
from pyro_dwp.timing.profile import Profile, profile
from pyro_dwp.timing.table import Entry, Row, entries
from pyro_dwp.timing.timings import Timings, read_timings
from pyro_dwp.timing.workload import Bench, Workload

__all__ = [
    "Bench",
    "Entry",
    "Measured",
    "Profile",
    "Row",
    "Timings",
    "Workload",
    "entries",
    "interleave",
    "measure",
    "median_seconds",
    "profile",
    "read_timings",
    "seconds_of",
]
