"""What is asked of a search: one value, the same for every search and every caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchcap.decoding.pruning import PruningPolicy, prune_at_once
from batchcap.options.decoding import DecodingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """The captions that are wanted of one batch."""

    images: int
    """B."""
    options: DecodingOptions
    """Which search, and how."""
    start: int
    """The token before the first."""
    end: int
    """The token that finishes a caption."""
    vocabulary_size: int
    """V."""
    banned: Sequence[int] = ()
    """Tokens that captions must not hold. A ban of ``end`` has no effect."""
    prefix: Sequence[int] = ()
    """The first tokens of every caption, at most ``max_length``. They count like chosen ones, in log_prob too. Where
    one is impossible the caption is what stands before it."""
    streams: Sequence[int] | None = None
    """[B] a number from 0 to 2 ** 64 - 1 an image, which with the seed decides what is sampled for it. None: its place
    in the batch."""
    pruning: PruningPolicy | None = prune_at_once
    """When images that are done leave the batch. None: never."""
    attention: bool = False
    """The hypotheses carry attention weights, where the model has them."""
