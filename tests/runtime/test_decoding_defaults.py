"""Which search and which of its options stand where nothing was chosen."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from bundles import build_bundle

from batchcap.bundle.bundle import open_bundle
from batchcap.bundle.manifest import Generation
from batchcap.errors import OptionError
from batchcap.options.decoding import DecodingOptions
from batchcap.runtime.decoding_defaults import decoding_options


def test_defaults_come_from_the_bundle(tmp_path: Path) -> None:
    own = Generation(beam_size=5, max_length=4, length_penalty=1.5)
    manifest = open_bundle(build_bundle(tmp_path / "b", generation=own)).manifest
    assert decoding_options(manifest) == DecodingOptions(beam_size=5, max_length=4, length_penalty=1.5)
    chosen = decoding_options(manifest, beam_size=2, num_captions=2, max_length=9, length_penalty=0.0)
    assert chosen == DecodingOptions(beam_size=2, num_captions=2, max_length=9, length_penalty=0.0)
    assert decoding_options(manifest, search="greedy").beam_size == 1
    with pytest.raises(OptionError, match="--num-captions 6 is more than --beam-size 5"):
        decoding_options(manifest, num_captions=6)
    with pytest.raises(OptionError, match="goes with --search beam"):
        decoding_options(manifest, search="greedy", beam_size=3)


@pytest.mark.parametrize(
    ("own", "chosen", "search", "beam_size", "length_penalty"),
    [
        (Generation(search="greedy", beam_size=1), {}, "greedy", 1, 0.7),
        (Generation(search="sample", beam_size=1), {}, "sample", 1, 0.7),
        (Generation(search="sample", beam_size=1), {"seed": 3, "num_captions": 4}, "sample", 1, 0.7),
        (Generation(search="im2txt", beam_size=5, length_penalty=3), {}, "im2txt", 5, 3),
        # A search that was chosen: the usual beam where the bundle has none of its own.
        (Generation(search="greedy", beam_size=1), {"search": "beam"}, "beam", 3, 0.7),
        (Generation(search="sample", beam_size=1), {"search": "im2txt", "num_captions": 3}, "im2txt", 3, 0.7),
        (Generation(search="im2txt", beam_size=5), {"search": "beam"}, "beam", 5, 0.7),
        (Generation(search="im2txt", beam_size=5), {"search": "greedy"}, "greedy", 1, 0.7),
        # A beam that was chosen means a search that has one.
        (Generation(search="greedy", beam_size=1), {"beam_size": 4}, "beam", 4, 0.7),
        (Generation(search="sample", beam_size=1), {"beam_size": 1}, "beam", 1, 0.7),
        (Generation(search="im2txt", beam_size=5), {"beam_size": 4}, "im2txt", 4, 0.7),
        # What only the bundle's own search can take.
        (Generation(search="im2txt", length_penalty=3), {"search": "beam"}, "beam", 3, 2.0),
        (Generation(search="im2txt", length_penalty=1), {"search": "sample"}, "sample", 1, 1.0),
    ],
)
def test_the_search_comes_from_the_bundle(
    tiny_bundle: Path, own: Generation, chosen: dict, search: str, beam_size: int, length_penalty: float
) -> None:
    manifest = msgspec.structs.replace(open_bundle(tiny_bundle).manifest, generation=own)
    found = decoding_options(manifest, **chosen)
    assert (found.search, found.beam_size, found.length_penalty) == (search, beam_size, length_penalty)


def test_what_goes_with_no_search_of_the_bundle(tiny_bundle: Path) -> None:
    greedy = msgspec.structs.replace(
        open_bundle(tiny_bundle).manifest, generation=Generation(search="greedy", beam_size=1)
    )
    with pytest.raises(OptionError, match="--beam-size 4 goes with --search beam"):
        decoding_options(greedy, search="greedy", beam_size=4)
    with pytest.raises(OptionError, match=r"--temperature 0\.5 goes with --search sample"):
        decoding_options(greedy, temperature=0.5)
    with pytest.raises(OptionError, match="--num-captions 2: greedy search finds one caption"):
        decoding_options(greedy, num_captions=2)
