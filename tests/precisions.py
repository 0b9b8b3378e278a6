"""Images and bundles for tests of float16 and int8 variants."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from batchcap.bundle.bundle import Bundle
from batchcap_export.options.bundles import Precisions
from batchcap_export.packaging.trial import prepare_trial
from batchcap_export.packaging.variants import add_variants

Say = list[str]


def write_images(folder: Path, count: int, seed: int) -> list[Path]:
    """Images of soft coloured patches."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    files = [folder / f"{index:03}.png" for index in range(count)]
    for file in files:
        patches = random.integers(0, 256, (*random.integers(2, 6, 2), 3)).astype(np.uint8)
        Image.fromarray(patches).resize((48, 40), Image.Resampling.BICUBIC).save(file)
    return files


def judge(place: Path) -> list[Path]:
    return sorted((place / "judge").iterdir())


def lower(plain: Bundle, place: Path, folder: Path, how: Precisions, said: Say | None = None) -> Bundle:
    """A copy of the bundle with variants, in memory."""
    shutil.copytree(plain.folder, folder)
    trial = prepare_trial(how, judge(place), [])
    return add_variants(replace(plain, folder=folder), trial, (said if said is not None else []).append)
