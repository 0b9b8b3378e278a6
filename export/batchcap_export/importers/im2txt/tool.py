"""What the Show and Tell code itself prints for a JPEG file, and the proof that a bundle prints the same.

The reference is the frozen graph as it is, run by a session of TensorFlow 1 from the files' bytes, one image and one
step at a time, and a caption generator written from the published semantics, in plain Python. It shares no code with
`batchcap.decoding.im2txt`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.detokenizer import Text
from batchcap.bundle.manifest import Metric
from batchcap.errors import ExportError
from batchcap.images.decode import orientation
from batchcap.options.decoding import DecodingOptions
from batchcap.reporting import Say
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device_choice import choose_device
from batchcap.tools.comparison import COMPARED_IMAGES
from batchcap_export.data import images
from batchcap_export.importers.im2txt import frozen

_BEAMS = 3
_LONGEST = 20
_LEAST = 1e-12
_MOST_PHOTOS = 512
_IDENTICAL = 0.98
_LOG_PROB = 1e-3
# Outputs that training never saw have less of the probability than this.
_NAMELESS = 1e-3


@dataclass(order=True, slots=True)
class _Caption:
    """A row of words that begins with ``<S>``; captions compare by their log-probability."""

    log_prob: float
    ids: list[int] = field(compare=False)
    state: NDArray[np.float32] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Printed:
    """A line that the tool prints, without its number."""

    text: str
    log_prob: float
    """The natural logarithm of its p."""
    complete: bool
    """It ended with ``</S>``. Of others the tool prints all but the last word."""


class Tool:
    """The original tool, from a JPEG file to captions: three beams, 20 words with ``<S>``, no length normalization."""

    unknown: str
    """What it prints for a word without a name."""
    nameless: int = 0
    """Outputs of the graph that have no word, of the files captioned so far."""
    nameless_share: float = 0.0
    """The probability that these outputs had together, at the mean of all steps."""

    def __init__(self, definition: Any, words: Sequence[str], *, start: str, end: str, unknown: str) -> None:
        self._words, self.unknown = list(words), unknown
        self._start, self._end = start, end
        self._definition = definition
        self._shares: list[float] = []

    def captions(self, files: Sequence[Path]) -> list[list[Printed]]:
        """For each file its captions, best first."""
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(self._definition, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            said = [[self._printed(c) for c in self._beam_search(session, file.read_bytes())] for file in files]
        self.nameless_share = float(np.mean(self._shares)) if self._shares else 0.0
        return said

    def _beam_search(self, session: Any, data: bytes) -> list[_Caption]:
        state = session.run(f"{frozen.INITIAL}:0", {f"{frozen.IMAGE}:0": data})[0]
        end = self._words.index(self._end)
        partial = [_Caption(0.0, [self._words.index(self._start)], state)]
        complete: list[_Caption] = []
        for _ in range(_LONGEST - 1):
            softmax, states = session.run(
                [f"{frozen.SOFTMAX}:0", f"{frozen.NEXT}:0"],
                {
                    f"{frozen.WORD}:0": np.array([caption.ids[-1] for caption in partial]),
                    f"{frozen.STATE}:0": np.array([caption.state for caption in partial]),
                },
            )
            self._count_nameless(softmax)
            following: list[_Caption] = []
            for caption, chances, after in zip(partial, softmax, states, strict=True):
                for word in np.argsort(-chances, kind="stable")[:_BEAMS].tolist():
                    if chances[word] < _LEAST:
                        continue
                    longer = _Caption(caption.log_prob + math.log(chances[word]), [*caption.ids, word], after)
                    _keep_best(complete if word == end else following, longer)
            partial = following
            if not partial:
                break
        return sorted(complete or partial, reverse=True)

    def _count_nameless(self, softmax: NDArray[np.float32]) -> None:
        """``<UNK>`` itself, which the original appends to its words, is not counted."""
        first = len(self._words) + (self.unknown not in self._words)
        self.nameless = max(0, softmax.shape[1] - first)
        self._shares += softmax[:, first:].sum(axis=1).tolist()

    def _printed(self, caption: _Caption) -> Printed:
        """As its ``sentence[1:-1]``: the first and the last token are left out, whatever the last one is."""
        said = [self._words[i] if i < len(self._words) else self.unknown for i in caption.ids[1:-1]]
        return Printed(" ".join(said), caption.log_prob, caption.ids[-1] == self._words.index(self._end))


def _keep_best(kept: list[_Caption], caption: _Caption) -> None:
    """Add to a heap of the best; of equal ones those stay that came first."""
    if len(kept) < _BEAMS:
        heapq.heappush(kept, caption)
    else:
        heapq.heappushpop(kept, caption)


def _tool_decoding(bundle: Bundle) -> DecodingOptions:
    """How the original tool decodes, whatever the bundle's own defaults are."""
    return decoding_options(
        bundle.manifest,
        search="im2txt",
        beam_size=_BEAMS,
        num_captions=_BEAMS,
        max_length=_LONGEST - 1,
        length_penalty=0.0,
        allow_unknown=True,
    )


def prove(tool: Tool, bundle: Bundle, files: Sequence[Path], say: Say) -> list[Metric]:
    """The finished bundle, run by the runtime, must print what the original tool prints for the same JPEG files.

    Args:
        files: images, of which 512 count at most; what is no JPEG, or is turned by its EXIF data (which the original
            does not heed), is left out.

    Raises:
        ExportError: fewer than 64 are left, fewer than 98% of the captions are identical, or their log-probabilities
            are further apart than 1e-3 at the median. Where outputs without a word can be the cause, it says so.
    """
    photos = list(islice(filter(_upright_jpeg, files), _MOST_PHOTOS))
    if len(photos) < COMPARED_IMAGES:
        raise ExportError(
            f"The comparison with the original tool needs {COMPARED_IMAGES} JPEG files that stand upright, "
            f"not {len(photos)} of {len(files)} images.",
            "Name a folder with more: --images.",
        )
    say(f"comparing with the original tool on {len(photos)} JPEG files")
    expected = tool.captions(photos)
    # However the bundle writes its words.
    runtime = Captioner(bundle.with_text(Text()), _tool_decoding(bundle), choose_device("cpu"))
    apart, same = [], 0
    for file, want, image in zip(photos, expected, runtime.caption(photos), strict=True):
        got = image.captions
        if not got or got[0].caption != want[0].text:
            say(f"{file.name}: {got[0].caption if got else image.failure!r}, the original: {want[0].text!r}")
            continue
        # A bundle writes each text once; of the tool two that were cut may differ in the word that is not printed.
        same += [c.caption for c in got] == [*dict.fromkeys(w.text for w in want)]
        apart.append(abs(got[0].log_prob - want[0].log_prob))
    identical, middle, furthest = len(apart), median(apart or [math.inf]), max(apart, default=math.inf)
    plain = Captioner(bundle.with_text(Text()), decoding_options(bundle.manifest), choose_device("cpu"))
    by_default = sum(
        bool(image.captions) and image.captions[0].caption == want[0].text
        for image, want in zip(plain.caption(photos), expected, strict=True)
    )
    cut = sum(not want[0].complete for want in expected)
    text = (
        f"{identical} of {len(photos)} captions as the original tool prints them from the JPEG files "
        f"({len({want[0].text for want in expected})} distinct, {cut} cut after {_LONGEST - 1} words and printed "
        f"without the last; all three captions: {same}; by the bundle's defaults, which leave {tool.unknown} out: "
        f"{by_default}), log_prob within {middle:.1e} at the median and {furthest:.1e} at most"
    )
    say(text)
    if identical < _IDENTICAL * len(photos) or not middle <= _LOG_PROB:
        raise ExportError(f"Only {text}.", _cause(tool))
    return [
        Metric(name="original_tool", value=identical / len(photos), signature=text),
        Metric(
            name="original_tool/log_prob",
            value=middle,
            signature=f"median difference over {identical} identical captions; {furthest:.1e} at most",
        ),
    ]


def _cause(tool: Tool) -> str:
    """Why the two may print other captions, and what to do."""
    if tool.nameless_share < _NAMELESS:
        return "The converted graphs do not say what the original says."
    return (
        f"{tool.nameless} of the model's outputs have no word, but {tool.nameless_share:.1%} of the probability: the "
        f"tool takes each for a word of its own and prints {tool.unknown}, a bundle has one {tool.unknown} for all. "
        "The vocabulary is shorter than the one that the model was trained with: name that one, "
        "--vocabulary word_counts.txt."
    )


def _upright_jpeg(file: Path) -> bool:
    images.read_image(file)  # a broken one is an error that names it
    with Image.open(file) as image:
        return image.format == "JPEG" and orientation(image) == 1
