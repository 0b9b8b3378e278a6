"""Precision variants: a finished bundle's graphs once more in float16 or int8, judged by the captions they give.

They are made from the bundle's float32 graphs, whatever those were converted from, and the runtime itself captions with
both.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from msgspec import structs
from numpy.typing import NDArray

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.manifest import DECODER_FILE, SELECT_FILE, Variant, graph_file
from batchcap.decoding.types import Ids, StepOutput, Stepper
from batchcap.errors import ExportError
from batchcap.options.precision import VariantName
from batchcap.reporting import Say
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoder import OnnxStepper
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device_choice import choose_device
from batchcap_export.convert.graphs import convert_select
from batchcap_export.convert.lowering import Feed, in_float16, in_int8
from batchcap_export.data import datasets, images
from batchcap_export.options.bundles import MIN_IMAGES, Precisions
from batchcap_export.proof.evaluate import Evaluation, caption_files, score

MIN_REFERENCES = 500
_MOST_CALIBRATED = 512
# Images of one feed: a range is the mean of the feeds' extremes.
_FED = 4


@dataclass(frozen=True, slots=True)
class Trial:
    """What is wanted, the pictures that calibrate, and those that judge."""

    how: Precisions
    calibration: tuple[Path, ...] = ()
    name: str = ""
    """Of the pictures that judge."""
    files: tuple[Path, ...] = ()
    references: tuple[tuple[str, ...], ...] | None = None
    plain: dict[str, list[str]] = field(default_factory=dict)
    """Captions of fp32, by device; filled where they are needed."""

    def judge(self, bundle: Bundle, device: str, graphs: str) -> Variant:
        """Caption with ``bundle``, which is in another precision, and compare.

        Args:
            graphs: what they are, for the signature.
        """
        if device not in self.plain:
            self.plain[device] = caption_files(replace(bundle, precision="fp32"), self.files, device)
        before, after = self.plain[device], caption_files(bundle, self.files, device)
        changed = sum(a != b for a, b in zip(before, after, strict=True))
        signature = f"{self.name}; {decoding_options(bundle.manifest).label}; {device}; {graphs}"
        if self.references is None:
            small = changed <= self.how.changed_limit * len(self.files)
            return Variant(images=len(self.files), changed=changed, equivalent=small, signature=signature)
        scores, fp32 = score(after, self.references, signature), score(before, self.references).cider
        return Variant(
            images=len(self.files),
            changed=changed,
            cider=scores.cider,
            cider_fp32=fp32,
            equivalent=scores.cider >= fp32 * (1 - self.how.cider_limit),
            signature=scores.signature,
        )


def prepare_trial(how: Precisions, pictures: Sequence[Path], evaluations: Sequence[Evaluation]) -> Trial:
    """Choose the pictures to judge with: those of the references, else the first evaluation's, else ``pictures``.

    Args:
        pictures: what is compared with the original.
        evaluations: photographs with references; the first are taken where ``how`` names no others.

    Raises:
        ExportError: too few pictures to calibrate, or to judge once those that calibrate are left out.
    """
    if not how.wanted:
        return Trial(how)
    calibration = _calibration(how.calibrate)
    used = {_digest(file) for file in calibration}
    if how.references is not None:
        known = datasets.read_captions(how.references)
        by_stem = {Path(name).stem: texts for name, texts in known.items()}
        offered = dict.fromkeys([*pictures, *(file for e in evaluations for file in e.files)])
        found = ((file, known.get(file.name) or by_stem.get(file.stem, ())) for file in offered)
        judging = _unused(((file, texts) for file, texts in found if texts), used)
        if len(judging) < MIN_REFERENCES:
            raise ExportError(
                f"--references {how.references}: has captions of {len(judging)} of the compared pictures that "
                f"calibrate nothing; {MIN_REFERENCES} are needed.",
                "Name a folder with more of them (--images), or leave --references out.",
            )
        return Trial(how, calibration, how.references.stem, tuple(judging), tuple(judging.values()))
    for evaluation in evaluations[:1]:
        judging = _unused(zip(evaluation.files, evaluation.references, strict=True), used)
        if len(judging) >= MIN_REFERENCES:
            return Trial(how, calibration, evaluation.name, tuple(judging), tuple(judging.values()))
    files = tuple(_unused(((file, ()) for file in pictures), used))
    if len(files) < MIN_IMAGES:
        raise ExportError(
            f"{len(files)} of the compared pictures calibrate nothing; {MIN_IMAGES} are needed to judge.",
            "Name other folders: --images for the comparison, --calibrate for int8.",
        )
    return Trial(how, calibration, "the compared pictures", files)


def add_variants(bundle: Bundle, trial: Trial, say: Say) -> Bundle:
    """Write the wanted variants into the bundle's folder, each compared with fp32.

    Returns:
        The bundle with a manifest that tells of them; whoever called writes it.

    Raises:
        ExportError: a variant that costs too much.
    """
    variants: dict[VariantName, Variant] = {}
    for name in trial.how.wanted:
        lowered = replace(bundle, precision=name)
        say(f"{name}: making it, and captioning {len(trial.files)} images of {trial.name}")
        variant = _float16(lowered, trial) if name == "fp16" else _int8(lowered, trial, say)
        say(f"{name}: {_cost(variant)}")
        if not variant.equivalent and not trial.how.force:
            alone = ": it then runs only where it is asked for" if name == "int8" else ""
            more = "More, and more fitting, pictures for --calibrate may help; or leave" if name == "int8" else "Leave"
            raise ExportError(
                f"--precision {name}: {_cost(variant)}; {_limit(variant, trial.how)}.",
                f"{more} {name} out, or keep it with --force{alone}.",
            )
        variants[name] = variant
    return replace(bundle, manifest=structs.replace(bundle.manifest, variants=variants)) if variants else bundle


def _float16(bundle: Bundle, trial: Trial) -> Variant:
    """Judged on a GPU where there is one: a CPU computes most of it in float32."""
    for path in (_float32(bundle.encoder_path), _float32(bundle.decoder_path)):
        _write(bundle, path, in_float16(path))
    return trial.judge(bundle, choose_device("auto").name, "float16 graphs")


def _int8(bundle: Bundle, trial: Trial, say: Say) -> Variant:
    """Both graphs in int8; where that costs too much, the encoder alone, which does most of the work."""
    made_of = f"calibrated with {len(trial.calibration)} pictures"
    # Float32 stay the projection to the memory and the layer before it, and the projection to the words.
    encoder, decoder = _float32(bundle.encoder_path), _float32(bundle.decoder_path)
    _write(bundle, encoder, in_int8(encoder, _pixels(bundle, trial.calibration), float_layers=2))
    _write(bundle, decoder, in_int8(decoder, _steps(bundle, trial.calibration), float_layers=1))
    both = trial.judge(bundle, "cpu", f"int8 encoder and decoder {made_of}")
    if both.equivalent:
        return both
    say(f"int8 with its decoder: {_cost(both)}; the decoder stays float32")
    shutil.copyfile(decoder, bundle.decoder_path)
    return trial.judge(bundle, "cpu", f"int8 encoder {made_of}, float32 decoder (in int8: {_cost(both)})")


def _float32(path: Path) -> Path:
    """The file of fp32 beside that of another precision."""
    return path.with_name(f"{path.name.split('.')[0]}.onnx")


def _write(bundle: Bundle, source: Path, graph: onnx.ModelProto) -> None:
    """A graph of the variant, with the decoder also the one by which images leave."""
    graphs = {source.name: graph}
    if source.name == DECODER_FILE and SELECT_FILE in bundle.manifest.files:
        graphs[SELECT_FILE] = convert_select(graph)
    for name, made in graphs.items():
        (bundle.folder / graph_file(name, bundle.precision)).write_bytes(made.SerializeToString(deterministic=True))


def _cost(variant: Variant) -> str:
    text = f"{variant.changed} of {variant.images} captions changed ({variant.share:.1%})"
    if variant.cider is None or variant.cider_fp32 is None:
        return text
    return f"{text}, CIDEr {variant.cider:.4f} instead of {variant.cider_fp32:.4f}"


def _limit(variant: Variant, how: Precisions) -> str:
    if variant.cider is None:
        return f"{how.changed_limit:.0%} may change where no references tell whether they are worse (--references)"
    return f"at most {how.cider_limit:.0%} of CIDEr may be lost"


# Pictures


def _calibration(folders: Sequence[Path]) -> tuple[Path, ...]:
    """At most 512 pictures from all over the folders."""
    found = [file for folder in folders for file in images.find_images(folder)]
    if folders and len(found) < MIN_IMAGES:
        raise ExportError(f"--calibrate: {len(found)} pictures are too few.", f"Give at least {MIN_IMAGES}.")
    return tuple(found[:: max(1, -(-len(found) // _MOST_CALIBRATED))])


def _unused(judging: Iterable[tuple[Path, tuple[str, ...]]], used: set[bytes]) -> dict[Path, tuple[str, ...]]:
    """Those that calibrate nothing, under whatever name."""
    return {file: texts for file, texts in judging if not used or _digest(file) not in used}


def _digest(file: Path) -> bytes:
    """A copy under another name is the same picture."""
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError as error:
        raise ExportError(f"{file}: {error.strerror or error}", "Only whole pictures can be compared.") from error


# Calibration


def _batches(bundle: Bundle, files: Iterable[Path]) -> Iterator[NDArray[Any]]:
    """Pixels [4, H, W, 3]; the last ones may be fewer."""
    rest = iter(files)
    while some := list(islice(rest, _FED)):
        yield images.read_pixels(some, bundle.manifest.preprocess)


def _pixels(bundle: Bundle, files: Iterable[Path]) -> Iterator[Feed]:
    return ({"image": pixels} for pixels in _batches(bundle, files))


def _steps(bundle: Bundle, files: Iterable[Path]) -> Iterator[Feed]:
    """What the decoder meets while these pictures are captioned."""
    captioner = Captioner(replace(bundle, precision="fp32"), decoding_options(bundle.manifest), choose_device("cpu"))
    for pixels in _batches(bundle, files):
        recorder = _Recorder()
        captioner.watch = recorder
        captioner.caption_pixels(pixels, len(pixels))
        yield from recorder.feeds


class _Recorder:
    """Keeps what each step is given; see `Captioner.watch`."""

    def __init__(self) -> None:
        self.feeds: list[Feed] = []

    def __call__(self, stepper: Stepper) -> Stepper:
        assert isinstance(stepper, OnnxStepper)  # the captioner's own
        self._stepper = stepper
        return self

    def step(self, token: Ids, parent: Ids, *, candidates: int, attention: bool = False) -> StepOutput:
        one = np.array([1], np.int64)  # how many words are shown changes no range
        self.feeds.append({"token": token, "parent": parent, "candidates": one, **self._stepper.carried})
        return self._stepper.step(token, parent, candidates=candidates, attention=attention)

    def select(self, rows: Ids) -> None:
        self._stepper.select(rows)
