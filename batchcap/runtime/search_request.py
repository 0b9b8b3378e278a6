"""A search request for the images of a bundle."""

from __future__ import annotations

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.token_lookup import banned_tokens, prefix_tokens
from batchcap.decoding.pruning import PruningPolicy, prune_at_once
from batchcap.decoding.request import SearchRequest
from batchcap.options.decoding import DecodingOptions


def search_request(
    bundle: Bundle, decoding: DecodingOptions, images: int, *, pruning: PruningPolicy | None = prune_at_once
) -> SearchRequest:
    """What to search for with a bundle's decoder: its tokens, and those that the options ban or begin with.

    Raises:
        OptionError: an option names a word that the bundle does not know.
    """
    tokens = bundle.manifest.tokens
    return SearchRequest(
        images=images,
        options=decoding,
        start=tokens.start,
        end=tokens.end,
        vocabulary_size=len(bundle.vocabulary),
        banned=banned_tokens(bundle, decoding),
        prefix=prefix_tokens(bundle, decoding),
        pruning=pruning,
    )
