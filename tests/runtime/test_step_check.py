"""Faulty decoders of other exporters are refused: tokens out of range, two ends, wrong shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundles import build_bundle, reroute, reseal, rewrite
from onnx import helper, numpy_helper

from batchcap import Captioner
from batchcap.bundle.manifest import Tokens
from batchcap.errors import BundleError

IMAGES = [np.full((9, 9, 3), level, np.uint8) for level in (0, 90, 200)]


def then(tensor: str, *steps: tuple[str, np.ndarray]) -> Callable[[onnx.ModelProto], None]:
    """What gave ``tensor`` goes through operators with a constant each."""

    def change(model: onnx.ModelProto) -> None:
        reroute(model, tensor)
        for at, (operator, constant) in enumerate(steps):
            last = at == len(steps) - 1
            given, out = "old_value" if at == 0 else f"value{at}", tensor if last else f"value{at + 1}"
            model.graph.initializer.append(numpy_helper.from_array(constant, f"constant{at}"))
            model.graph.node.append(helper.make_node(operator, [given, f"constant{at}"], [out]))

    return change


def shortened(tensor: str) -> Callable[[onnx.ModelProto], None]:
    """One candidate only."""

    def change(model: onnx.ModelProto) -> None:
        reroute(model, tensor)
        for name, value in (("from", 0), ("to", 1), ("axis", 2)):
            model.graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
        model.graph.node.append(helper.make_node("Slice", ["old_value", "from", "to", "axis"], [tensor]))

    return change


ZERO, END = np.array(0, np.int64), np.array(2, np.int64)
CHANGES = [
    (then("next_token", ("Add", np.array(100, np.int64))), r"a next token is 1\d\d, and there are 12 words"),
    (then("next_token", ("Sub", np.array(12, np.int64))), r"a next token is -\d+, and there are 12 words"),
    (then("next_token", ("Mul", ZERO), ("Add", END)), "the end is among the next tokens of a beam more than once"),
    (then("log_prob", ("Add", np.array(np.inf, np.float32))), "gives infinity instead of log-probabilities"),
    (then("log_prob", ("Mul", np.array(np.nan, np.float32))), "gives NaN instead of log-probabilities"),
    (shortened("next_token"), r"`next_token` has the shape \[3, 1, 1\], not \[3, 1, "),
    (shortened("log_prob"), r"`log_prob` has the shape \[3, 1, 1\], not \[3, 1, "),
]


@pytest.mark.parametrize("search", ["beam", "greedy", "sample", "im2txt"])
@pytest.mark.parametrize(("change", "problem"), CHANGES, ids=[problem[:24] for _, problem in CHANGES])
def test_a_step_that_makes_no_sense(
    change: Callable[[onnx.ModelProto], None], problem: str, search: str, tmp_path: Path
) -> None:
    folder = build_bundle(tmp_path / "bundle")
    rewrite(folder, "decoder.onnx", change)
    captioner = Captioner.load(folder, "cpu", search=search)
    with pytest.raises(BundleError, match=rf"decoder\.onnx: .*({problem})"):
        list(captioner.caption(IMAGES))


@pytest.mark.parametrize("search", ["beam", "greedy", "sample", "im2txt"])
def test_one_token_may_be_start_and_end(search: str, tmp_path: Path) -> None:
    """As GPT-2 has it: captions end with what they began with, and hold it nowhere else."""
    folder = build_bundle(tmp_path / "bundle")
    reseal(folder, tokens=Tokens(padding=0, start=2, end=2, unknown=3))
    found = list(Captioner.load(folder, "cpu", search=search, num_captions=1).caption(IMAGES))
    assert all(2 not in tokens for image in found for tokens in image.tokens)
    assert all(len(tokens) < 6 for image in found for tokens in image.tokens)
