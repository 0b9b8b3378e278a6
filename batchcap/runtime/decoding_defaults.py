"""How to search: what was chosen, and a bundle's own defaults for the rest."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from batchcap.bundle.manifest import Manifest
from batchcap.bundle.token_lookup import read_words
from batchcap.errors import OptionError
from batchcap.options.decoding import Decoding, DecodingOptions, has_beam, largest_penalty
from batchcap.options.field import check_types
from batchcap.options.types import checked


def decoding_options(manifest: Manifest, **chosen: Unpack[Decoding]) -> DecodingOptions:
    """How to search: what was chosen, and the bundle's own default wherever nothing was (None).

    A beam chosen without a search is beam search where the bundle's own search has none. Beam search chosen for such a
    bundle has the usual beam; and no search takes over a length_penalty beyond its own limit.

    Raises:
        OptionError: a value that cannot work, alone or with another.
    """
    own = manifest.generation
    given = _given(chosen)
    if "search" not in given:
        given["search"] = "beam" if "beam_size" in given and not has_beam(own.search) else own.search
    if not has_beam(given["search"]):
        given.setdefault("beam_size", 1)
    elif has_beam(own.search):
        given.setdefault("beam_size", own.beam_size)
    given.setdefault("max_length", own.max_length)
    given.setdefault("length_penalty", min(own.length_penalty, largest_penalty(given["search"])))
    if "ban_file" in given:
        given["ban"] = (*given.get("ban", ()), *read_words(given.pop("ban_file")))
    return DecodingOptions(**given)


def _given(chosen: Mapping[str, object]) -> dict[str, Any]:
    """What was chosen, without None, in the type of its option."""
    for name, value in chosen.items():
        if name not in Decoding.__annotations__:
            near = difflib.get_close_matches(name, Decoding.__annotations__)
            fix = f"Near ones: {', '.join(near)}." if near else f"There are {', '.join(Decoding.__annotations__)}."
            raise OptionError(f"{name}={value!r}: no such option.", fix)
    given = {name: value for name, value in chosen.items() if value is not None}
    files = {"ban_file": checked("ban_file", given.pop("ban_file"), Path)} if "ban_file" in given else {}
    return check_types(DecodingOptions, given) | files
