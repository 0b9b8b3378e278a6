"""How ``log_prob`` and ``score`` are written: to so many digits, and as a probability for people."""

from __future__ import annotations

import math
from decimal import MIN_EMIN, Context, Decimal
from typing import Final

from batchcap.records import Caption

DIGITS: Final = 3
"""Digits after the point in a record: the other images of a batch move the numbers by up to 2e-5, which can still lie
across a boundary. Batches of 1 in the place of 32 wrote 6 of 1,000 records otherwise with 4 digits, none with 3; larger
ones none with either (`benchmarks/rounding.py`)."""


def rounded(caption: Caption) -> Caption:
    """The caption as a record has it: both numbers with `DIGITS` digits after the point."""
    return Caption(caption.caption, round(caption.log_prob, DIGITS), round_score(caption.score, DIGITS))


def round_score(value: float, digits: int) -> float:
    """Rounded to so many digits after the point; to more below 0.001, since a large penalty makes scores of 1e-12."""
    small = value != 0 and abs(value) < 1e-3
    return round(value, digits + (-math.floor(math.log10(abs(value))) if small else 0))


def probability(log_prob: float | None, digits: int = 6) -> str:
    """p = exp(log_prob) with ``digits`` significant digits, however small (a float of it would be 0); None is empty."""
    return "" if log_prob is None else format(Decimal(log_prob).exp(Context(prec=digits, Emin=MIN_EMIN)), "g")
