"""What the tensors of a bundle's graphs must be called and look like, and the check that they do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.manifest import SELECT_FILE, graph_file
from batchcap.errors import BundleError


class Tensor(Protocol):
    """What a graph says of one of its inputs or outputs."""

    name: str
    type: str
    """As onnxruntime writes it: ``tensor(float)``."""
    shape: Sequence[int | str | None]
    """A size, or the name of an axis that is free."""


class Graph(Protocol):
    """A loaded graph: a session of onnxruntime."""

    def get_inputs(self) -> Sequence[Tensor]: ...
    def get_outputs(self) -> Sequence[Tensor]: ...


_FREE: Final = -1
# 1 GiB of float32 an image: no captioner needs a larger tensor, and it would only take memory.
_MAX_NUMBERS: Final = 2**28


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a tensor must be."""

    type: str
    sizes: tuple[int | None, ...]
    """A number: this size. _FREE: the graph must not fix it. None: any."""


def verify_encoder(bundle: Bundle, encoder: Graph) -> None:
    """Check the tensors of ``encoder.onnx``.

    Raises:
        BundleError: one is missing, extra, or of a wrong type or shape.
    """
    how, path = bundle.manifest.preprocess, bundle.encoder_path
    pixels = "tensor(uint8)" if how.pixels == "uint8" else "tensor(float)"
    _verify(path, "input", encoder.get_inputs(), {"image": _Wanted(pixels, (_FREE, how.height, how.width, 3))})
    outputs = encoder.get_outputs()
    for tensor in outputs:
        if not tensor.name.startswith(("state.", "memory.")):
            raise BundleError(f"{path}: output `{tensor.name}` is neither `state.*` nor `memory.*`.")
        start: tuple[int | None, ...] = (None, 1) if tensor.name.startswith("state.") else (None,)
        rest = (None,) * (len(tensor.shape) - len(start))
        _verify(path, "output", [tensor], {tensor.name: _Wanted(tensor.type, start + rest)})
    if not any(tensor.name.startswith("state.") for tensor in outputs):
        raise BundleError(f"{path}: has no output `state.*`.")


def verify_decoder(bundle: Bundle, encoder: Graph, decoder: Graph) -> None:
    """Check the tensors of ``decoder.onnx`` against the contract and the states and memories that the encoder gives.

    Raises:
        BundleError: one is missing, extra, or of a wrong type or shape.
    """
    path, grid = bundle.decoder_path, bundle.manifest.attention_grid
    features = {t.name: _Wanted(t.type, (None,) * len(t.shape)) for t in encoder.get_outputs()}
    inputs = {"token": _Wanted("tensor(int64)", (_FREE, _FREE)), "parent": _Wanted("tensor(int64)", (_FREE, _FREE))}
    inputs["candidates"] = _Wanted("tensor(int64)", (1,))
    _verify(path, "input", decoder.get_inputs(), inputs | _carried(features))
    outputs = {
        "log_prob": _Wanted("tensor(float)", (None, None, None)),
        "next_token": _Wanted("tensor(int64)", (None, None, None)),
        **{f"next_{name}": wanted for name, wanted in features.items() if name.startswith("state.")},
    }
    found = decoder.get_outputs()
    if grid is not None or any(tensor.name == "attention" for tensor in found):
        regions = None if grid is None else grid[0] * grid[1]
        outputs["attention"] = _Wanted("tensor(float)", (None, None, regions))
    _verify(path, "output", found, outputs)


def verify_select(bundle: Bundle, encoder: Graph, select: Graph) -> None:
    """Check the tensors of ``select.onnx``: the states and memories, and ``rows``, of which they keep these images.

    A graph cannot give back a tensor under the name of its input: ``selected.`` stands before it.

    Raises:
        BundleError: one is missing, extra, or of a wrong type or shape.
    """
    path = bundle.folder / graph_file(SELECT_FILE, bundle.precision)
    features = {t.name: _Wanted(t.type, (None,) * len(t.shape)) for t in encoder.get_outputs()}
    _verify(path, "input", select.get_inputs(), {"rows": _Wanted("tensor(int64)", (_FREE,))} | _carried(features))
    _verify(path, "output", select.get_outputs(), {f"selected.{name}": wanted for name, wanted in features.items()})


def _carried(features: Mapping[str, _Wanted]) -> dict[str, _Wanted]:
    """States and memories as they go from step to step: any number of images, and of beams."""
    free = {name: (_FREE, _FREE) if name.startswith("state.") else (_FREE,) for name in features}
    return {n: _Wanted(wanted.type, (*free[n], *wanted.sizes[len(free[n]) :])) for n, wanted in features.items()}


def _fixed(size: object) -> bool:
    return isinstance(size, int)


def _verify(path: Path, side: str, found: Sequence[Tensor], wanted: Mapping[str, _Wanted]) -> None:
    """Compare a graph's tensors with the contract, by name."""
    names = {tensor.name for tensor in found}
    for name in wanted:
        if name not in names:
            raise BundleError(f"{path}: has no {side} `{name}`.", "Export the model again.")
    for tensor in found:
        if tensor.name not in wanted:
            raise BundleError(f"{path}: has an {side} `{tensor.name}` that nothing feeds or reads.")
        want, what = wanted[tensor.name], f"{path}: {side} `{tensor.name}`"
        if tensor.type != want.type:
            raise BundleError(f"{what} is {tensor.type}, not {want.type}.")
        if len(tensor.shape) != len(want.sizes):
            raise BundleError(f"{what} has {len(tensor.shape)} dimensions, not {len(want.sizes)}.")
        numbers = math.prod(size for size in tensor.shape if isinstance(size, int))
        if numbers > _MAX_NUMBERS:
            raise BundleError(f"{what} has {numbers:,} numbers an image: more than any captioner needs.")
        for axis, (size, expected) in enumerate(zip(tensor.shape, want.sizes, strict=True)):
            if _fixed(size) and expected is not None and size != expected:
                free = "any size" if expected == _FREE else str(expected)
                raise BundleError(f"{what} has the size {size} on axis {axis}, where it needs {free}.")
