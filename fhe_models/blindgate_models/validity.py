"""How long a package is valid, unless its publisher says otherwise."""

from typing import Final

DAY: Final = 86_400_000
"""In milliseconds."""

DEFAULT_VALIDITY_DAYS: Final = 365
LONGEST_VALIDITY_DAYS: Final = 36_525
"""A century: what a publisher types beyond it is a slip, and soon no date that a calendar has."""
