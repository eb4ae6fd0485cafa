"""Sizes of long tests: moderate, or with POWERTCP_LONG=1 the number that the requirement names.

A long run goes with `-o faulthandler_timeout=0`, why is said in pyproject.toml.
"""

import os

LONG = os.environ.get("POWERTCP_LONG") == "1"


def size(moderate: int, full: int) -> int:
    """Return how often to do something: `moderate`, or `full` in a long run."""
    return full if LONG else moderate
