"""The comparison of a variant with float32: its images, and how many captions change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.manifest import Variant
from batchcap.errors import ExportError
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.tools.comparison import COMPARED_IMAGES
from batchcap_export.data import images
from batchcap_export.data.caption_files import read_captions
from batchcap_export.options.bundles import Precisions
from batchcap_export.proof.evaluate import Evaluation, caption_files, score

MIN_REFERENCES = 500
_MOST_CALIBRATED = 512


@dataclass(frozen=True, slots=True)
class Trial:
    """Which variants are wanted, the images to calibrate them, and the images to compare their captions on."""

    how: Precisions
    calibration: tuple[Path, ...] = ()
    name: str = ""
    """Of the images that judge."""
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
            self.plain[device] = caption_files(bundle.at("fp32"), self.files, device)
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


def prepare_trial(how: Precisions, compared: Sequence[Path], evaluations: Sequence[Evaluation]) -> Trial:
    """Choose the images that judge: those with references, else the first evaluation's, else ``compared``.

    Args:
        compared: the images of the comparison with the original.
        evaluations: images with references; the first are taken where ``how`` names no others.

    Raises:
        ExportError: too few images to calibrate, or to judge once those that calibrate are left out.
    """
    if not how.wanted:
        return Trial(how)
    calibration = _calibration(how.calibrate)
    used = {_digest(file) for file in calibration}
    if how.references is not None:
        known = read_captions(how.references)
        by_stem = {Path(name).stem: texts for name, texts in known.items()}
        offered = dict.fromkeys([*compared, *(file for e in evaluations for file in e.files)])
        found = ((file, known.get(file.name) or by_stem.get(file.stem, ())) for file in offered)
        judging = _unused(((file, texts) for file, texts in found if texts), used)
        if len(judging) < MIN_REFERENCES:
            raise ExportError(
                f"--references {how.references}: has captions of {len(judging)} of the compared images, without "
                f"those for calibration; {MIN_REFERENCES} are needed.",
                "Name a folder with more of them (--images), or leave --references out.",
            )
        return Trial(how, calibration, how.references.stem, tuple(judging), tuple(judging.values()))
    for evaluation in evaluations[:1]:
        judging = _unused(zip(evaluation.files, evaluation.references, strict=True), used)
        if len(judging) >= MIN_REFERENCES:
            return Trial(how, calibration, evaluation.name, tuple(judging), tuple(judging.values()))
    files = tuple(_unused(((file, ()) for file in compared), used))
    if len(files) < COMPARED_IMAGES:
        raise ExportError(
            f"{len(files)} of the compared images are not used for calibration; {COMPARED_IMAGES} are needed.",
            "Name other folders: --images for the comparison, --calibrate for int8.",
        )
    return Trial(how, calibration, "the compared images", files)


def _calibration(folders: Sequence[Path]) -> tuple[Path, ...]:
    """At most 512 images from all over the folders."""
    found = [file for folder in folders for file in images.find_images(folder)]
    if folders and len(found) < COMPARED_IMAGES:
        raise ExportError(f"--calibrate: {len(found)} images are too few.", f"Give at least {COMPARED_IMAGES}.")
    return tuple(found[:: max(1, -(-len(found) // _MOST_CALIBRATED))])


def _unused(judging: Iterable[tuple[Path, tuple[str, ...]]], used: set[bytes]) -> dict[Path, tuple[str, ...]]:
    """The images that are not among those for calibration, under whatever name."""
    return {file: texts for file, texts in judging if not used or _digest(file) not in used}


def _digest(file: Path) -> bytes:
    """SHA-256 of the file: a copy under another name is the same image."""
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError as error:
        raise ExportError(f"{file}: {error.strerror or error}", "Only whole images can be compared.") from error
