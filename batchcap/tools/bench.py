"""`batchcap bench`: images a second, whole and part by part, and what a search costs, on the same images."""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from batchcap.errors import NoImagesError, OutOfMemoryError, OutputError
from batchcap.images import discovery
from batchcap.images.loader import load
from batchcap.images.resize import Pixels
from batchcap.options.bench import BenchOptions
from batchcap.options.run import RunOptions
from batchcap.records import ImageRef
from batchcap.reporting import Say
from batchcap.run import pipeline
from batchcap.runtime.captioner import Captioner
from batchcap.tools.generated_images import HEIGHT, WIDTH, make_images
from batchcap.tools.machine import machine
from batchcap.tools.step_clock import StepClock

# Batches of ready pixels that the model is measured with, again and again.
_READY_BATCHES: Final = 4

IMAGES: Final = "images/s"

Figures = dict[tuple[str, str], float]
"""One run's figures by name and unit."""


@dataclass(frozen=True, slots=True)
class Part:
    """One figure."""

    name: str
    unit: str
    runs: tuple[float, ...]
    """The figure of each run."""

    @property
    def median(self) -> float:
        """The figure that is shown first."""
        return statistics.median(self.runs)


@dataclass(frozen=True, slots=True)
class BenchReport:
    """The figures, and all settings that they depend on."""

    title: str
    settings: dict[str, str | int | float]
    machine: dict[str, str | int]
    parts: tuple[Part, ...]


def measure(options: BenchOptions, say: Say) -> BenchReport:
    """Measure each part ``repeats`` times after one run to warm up.

    Args:
        options: what to measure.
        say: gets a line for what is measured now.

    Raises:
        BatchcapError: the model or the images cannot be used, or memory ran out.
        Interrupted: a signal stopped a run.
    """
    captioner = Captioner.load(
        options.model, options.device, options.batch_size, precision=options.precision, beam_size=options.beam_size
    )
    with tempfile.TemporaryDirectory(prefix="batchcap-bench-") as temporary:
        folder = options.folder
        if folder is None:
            say(f"Making {options.images} images ...")
            folder = Path(temporary) / "images"
            make_images(folder, options.images)
        refs = _references(folder, options.images)
        batches = _ready_batches(captioner, refs, options)
        parts: list[Part] = []
        for what, work in (
            ("the whole run", partial(_end_to_end, options, folder, Path(temporary))),
            ("reading, decoding and resizing", partial(_loading, captioner, refs, options)),
            ("encoder and search", partial(_model, captioner, batches, len(refs))),
        ):
            say(f"Measuring: {what} ...")
            work()
            runs = [work() for _ in range(options.repeats)]
            parts += [Part(name, unit, tuple(run[name, unit] for run in runs)) for name, unit in runs[0]]
    if captioner.reduced_batch is not None:
        raise OutOfMemoryError(
            f"{captioner.device.description}: too little memory for batches of {options.batch_size}.",
            f"Use --batch-size {captioner.reduced_batch}.",
        )
    bytes_an_image = sum(ref.size for ref in refs) / len(refs)
    settings = _settings(options, captioner, len(refs), bytes_an_image)
    title = f"{captioner.bundle.label} on {captioner.device.description}, {captioner.decoding.label}"
    return BenchReport(title, settings, machine(), tuple(parts))


def write_report(report: BenchReport, path: Path) -> None:
    """Write the figures as JSON.

    Raises:
        OutputError: the file cannot be written.
    """
    fields = asdict(report)
    for part, fields_of_part in zip(report.parts, fields["parts"], strict=True):
        fields_of_part["median"] = part.median
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.", "Name another file.") from error


def _references(folder: Path, count: int) -> list[ImageRef]:
    refs = list(islice(discovery.discover([folder]), count))
    if not refs:
        raise NoImagesError(f"There is no image in {folder}.", "Name a folder with photos, or none.")
    return refs


def _ready_batches(captioner: Captioner, refs: list[ImageRef], options: BenchOptions) -> list[Pixels]:
    """A few full batches of pixels [batch_size, H, W, 3]; few images are repeated to fill them."""
    how = captioner.bundle.manifest.preprocess
    wanted = min(_READY_BATCHES, -(-len(refs) // options.batch_size))
    with closing(load(refs[: wanted * options.batch_size], how, options.batch_size, options.workers)) as batches:
        ready = [batch.pixels[np.arange(options.batch_size) % batch.count] for batch in batches if batch.count]
    if not ready:
        raise NoImagesError("None of the images could be decoded.", "Name a folder with photos, or none.")
    return ready


def _end_to_end(options: BenchOptions, folder: Path, temporary: Path) -> Figures:
    """Images/s of `pipeline.run` into a new file: all of it, and without the start up to the first written batch."""
    output = temporary / "captions.jsonl"
    output.unlink(missing_ok=True)
    run = RunOptions(
        inputs=(folder,),
        output=output,
        model=options.model,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        workers=options.workers,
        limit=options.images,
    )
    times: list[tuple[float, int]] = []
    started = time.perf_counter()
    pipeline.run(run, {"beam_size": options.beam_size}, lambda now: times.append((time.perf_counter(), now.done)))
    (first, begun), (last, done) = times[0], times[-1]
    whole = done / (time.perf_counter() - started)
    started_up = (done - begun) / (last - first) if done > begun else whole
    return {("end to end", IMAGES): whole, ("end to end, after the first batch", IMAGES): started_up}


def _loading(captioner: Captioner, refs: list[ImageRef], options: BenchOptions) -> Figures:
    """Images/s of all threads while no model runs."""
    started = time.perf_counter()
    how = captioner.bundle.manifest.preprocess
    with closing(load(refs, how, options.batch_size, options.workers)) as batches:
        for batch in batches:
            batch.release()
    return {("read, decode and resize alone", IMAGES): len(refs) / (time.perf_counter() - started)}


def _model(captioner: Captioner, batches: list[Pixels], images: int) -> Figures:
    """Images/s of the encoder, and of the search (decoder steps and bookkeeping), on ready batches; the search's costs.

    A step is one of a whole batch; bookkeeping is what the search does outside the decoder.
    """
    clock = captioner.watch = StepClock()
    before = dict(captioner.seconds)
    done = 0
    while done < images:
        for pixels in batches:
            done += len(captioner.caption_pixels(pixels, len(pixels)))
    encode, search = (captioner.seconds[stage] - before[stage] for stage in ("encode", "search"))
    return {
        ("encoder alone", IMAGES): done / encode,
        ("search alone", IMAGES): done / search,
        ("search, an image", "ms"): 1e3 * search / done,
        ("search, a step", "ms"): 1e3 * search / clock.steps,
        ("its bookkeeping, a step", "ms"): 1e3 * (search - clock.seconds) / clock.steps,
        ("its bookkeeping, an image and step", "us"): 1e6 * (search - clock.seconds) / clock.image_steps,
        ("steps, a batch", "steps"): clock.steps * captioner.batch_size / done,
    }


def _settings(
    options: BenchOptions, captioner: Captioner, images: int, bytes_an_image: float
) -> dict[str, str | int | float]:
    """Everything that was chosen, as it was used."""
    how, decoding = captioner.bundle.manifest.preprocess, captioner.decoding
    return {
        "model": captioner.bundle.label,
        "architecture": captioner.bundle.manifest.provenance.architecture,
        "input": f"{how.height}x{how.width} {how.pixels} {how.method} {how.fit}",
        "device": captioner.device.description,
        "precision": captioner.bundle.precision,
        "decoding": decoding.label,
        "beam_size": decoding.beam_size,
        "max_length": decoding.max_length,
        "length_penalty": decoding.length_penalty,
        "batch_size": options.batch_size,
        "workers": options.workers,
        "images": images,
        "bytes_an_image": round(bytes_an_image),
        "source": f"generated {WIDTH}x{HEIGHT} JPEG" if options.folder is None else options.folder.name,
        "repeats": options.repeats,
    }
