"""What holds of every search: attention that is kept, no Python for each image, steppers that give too little."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import get_args

import numpy as np
import pytest
from oracles import INF, REGIONS, TURNS, TableStepper, model_of, same_attention

import batchcap
from batchcap.decoding.driver import STRATEGIES, search
from batchcap.decoding.types import StepOutput
from batchcap.options.decoding import DecodingOptions, Search

ROOM = Path(batchcap.__file__).parent / "decoding"


def test_every_search_that_can_be_chosen_is_in_the_table() -> None:
    assert set(STRATEGIES) == set(get_args(Search))


def test_attention_is_there_only_when_it_was_asked_for() -> None:
    options = DecodingOptions(beam_size=2, num_captions=2, max_length=3)
    for search_by in ("beam", "sample", "im2txt"):
        chosen = replace(options, search=search_by, beam_size=1 if search_by == "sample" else 2, num_captions=1)
        assert all(h.attention is None for best in TURNS.search(chosen) for h in best)
        for image, best in enumerate(TURNS.search(chosen, attention=True)):
            same_attention(best, image)


def test_a_caption_without_words_looked_at_nothing() -> None:
    model = model_of([-INF, -0.01, -5.0, -6.0])
    for (best,) in model.search(DecodingOptions(max_length=30, length_penalty=0.0), attention=True):
        assert best.tokens == ()
        assert best.attention.shape == (0, REGIONS)


def test_no_python_runs_for_each_image_of_a_step() -> None:
    """Instructions of our own between the first step and the last are as many for 4 images as for 64."""
    rules = {"beam_size": 3, "min_length": 2, "no_repeat_ngram": 2, "max_length": 6}
    for chosen in ({}, {"search": "im2txt"}, {"search": "sample", "beam_size": 1, "num_captions": 3}):
        counts = [_instructions(DecodingOptions(**{**rules, **chosen}), images) for images in (4, 64)]
        assert counts[0] == counts[1] > 1000


def _instructions(options: DecodingOptions, images: int) -> int:
    """Python instructions that the files of batchcap run from the first step of a search to the last."""
    # Nothing ends before the last step may only end, so that both batches make the same steps.
    words = [-INF, -12.0, *np.log(np.arange(1, 10) / 45).tolist()]
    model = model_of(words, following=[[0] * len(words)], images=images)
    marks: list[int] = []
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        nonlocal count
        if Path(frame.f_code.co_filename).parent != ROOM:
            return None
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    class Marked(TableStepper):
        def step(self, *arguments: np.ndarray, **settings: object) -> StepOutput:
            marks.append(count)
            return super().step(*arguments, **settings)

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        search(Marked(model), model.request(options))
    finally:
        sys.settrace(before)
    assert len(marks) >= options.max_length
    return marks[-1] - marks[0]


def test_too_few_candidates_are_refused() -> None:
    model = model_of([-INF, -1.0, -0.5, -2.0, -3.0])
    with pytest.raises(ValueError, match="3 candidates a beam; this search needs 5"):
        search(TableStepper(model, 3), model.request(DecodingOptions()))
