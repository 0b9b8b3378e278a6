"""What `export` is told: a bundle's name and defaults, its storage and precisions. Nothing here loads TensorFlow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import structs

from batchcap.bundle.manifest import BUNDLE_NAME, Generation
from batchcap.errors import ExportError
from batchcap.options.decoding import DecodingOptions
from batchcap.options.precision import VariantName
from batchcap_export.data.texts import TextName

MIN_IMAGES = 64
"""So many images the original and the bundle caption, to be compared."""
Storage = Literal["float32", "float16", "int8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleOptions:
    """What a bundle is called, how it is stored, and what is said of it."""

    name: str
    version: str = "1"
    store: Storage = "float32"
    """How the big weights lie in the files; arithmetic is float32."""
    beam_size: int | None = None
    """Default of the bundle, as the next two; None is the model's own."""
    max_length: int | None = None
    length_penalty: float | None = None
    text: TextName | None = None
    """How the bundle writes its words; None is the model's own."""
    data: str = ""
    """What it learnt from, in words."""
    terms: str = ""
    """Under which terms it may be used."""
    min_distinct: float = 0.5
    """Share of the parity captions that must be different."""

    def __post_init__(self) -> None:
        if not re.fullmatch(BUNDLE_NAME, self.name):
            raise ExportError(
                f"{self.name!r} cannot be the name of a bundle.",
                "Use letters, digits and . _ + -, with --name or --output.",
            )

    def generation(self, own: Generation) -> Generation:
        """The bundle's default decoding: what was chosen here, else the model's own.

        Raises:
            OptionError: a run would refuse it.
        """
        chosen = {name: getattr(self, name) for name in ("beam_size", "max_length", "length_penalty")}
        generation = structs.replace(own, **{name: value for name, value in chosen.items() if value is not None})
        DecodingOptions(**structs.asdict(generation))
        return generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Precisions:
    """Which variants a bundle gets, and how they are made and judged."""

    wanted: tuple[VariantName, ...] = ()
    calibrate: tuple[Path, ...] = ()
    """Folders of images like those that will be captioned: int8 takes its ranges from them."""
    references: Path | None = None
    """File of captions, see `datasets.FORMS`; the images are those of the comparison."""
    force: bool = False
    """Keep a variant that costs too much; the manifest says so."""
    cider_limit: float = 0.01
    """With references: the share of fp32's CIDEr that a variant may lose."""
    changed_limit: float = 0.03
    """Without: the share of captions that may change."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "wanted", tuple(sorted(set(self.wanted))))
        if "int8" in self.wanted and not self.calibrate:
            raise ExportError(
                "--precision int8 needs images to take its ranges from.",
                "Name a folder of some hundred like those you will caption: --calibrate FOLDER.",
            )
        if self.calibrate and "int8" not in self.wanted:
            raise ExportError("--calibrate goes with --precision int8.", "Add it, or leave --calibrate out.")
