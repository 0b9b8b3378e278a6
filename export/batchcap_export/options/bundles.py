"""The options of `export`: a bundle's name and defaults, its storage and precisions. Nothing here loads TensorFlow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import structs

from batchcap.bundle.manifest import BUNDLE_NAME, Generation
from batchcap.errors import ExportError
from batchcap.options.decoding import DecodingOptions
from batchcap.options.field import check_ranges
from batchcap.options.precision import VariantName
from batchcap.tools.comparison import COMPARED_IMAGES
from batchcap_export.data.texts import TextName
from batchcap_export.options.setting import setting

Storage = Literal["float32", "float16", "int8"]


_BUNDLE = "The bundle"
_COMPARED = "Comparison and scores"
_PRECISIONS = "More precisions"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleOptions:
    """What a bundle is called, how it is stored, and what is said of it."""

    name: Annotated[str, setting("The bundle's name.", unset="that of the folder", panel=_BUNDLE)]
    version: Annotated[str, setting("The bundle's version.", name="bundle-version", panel=_BUNDLE)] = "1"
    store: Annotated[
        Storage,
        setting(
            "For a run folder: round the big weights, for a smaller bundle. Arithmetic stays float32.", panel=_BUNDLE
        ),
    ] = "float32"
    beam_size: Annotated[
        int | None,
        setting("The --beam-size of a run that names none.", low=1, unset="the model's", panel=_BUNDLE),
    ] = None
    max_length: Annotated[
        int | None,
        setting("The --max-length of a run that names none.", low=1, unset="the model's", panel=_BUNDLE),
    ] = None
    length_penalty: Annotated[
        float | None,
        setting("The --length-penalty of a run that names none.", low=0.0, unset="the model's", panel=_BUNDLE),
    ] = None
    text: Annotated[
        TextName | None,
        setting(
            "How captions are written. english: 's, n't and punctuation join their words.",
            unset="the model's",
            panel=_BUNDLE,
        ),
    ] = None
    data: Annotated[str, setting("What the model was trained on, for the model card.", panel=_BUNDLE)] = ""
    terms: Annotated[
        str, setting("The terms under which the model may be used, for the model card.", panel=_BUNDLE)
    ] = ""
    min_distinct: Annotated[
        float,
        setting("Share of the compared captions that must be different.", low=0.0, high=1.0, panel=_COMPARED),
    ] = 0.5

    def __post_init__(self) -> None:
        if not re.fullmatch(BUNDLE_NAME, self.name):
            raise ExportError(
                f"{self.name!r} cannot be the name of a bundle.",
                "Use letters, digits and . _ + -, with --name or --output.",
            )
        check_ranges(self)

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
class Comparison:
    """What a bundle is compared on with its original, and what is scored."""

    images: Annotated[
        Path | None,
        setting(
            f"Folder of at least {COMPARED_IMAGES} images for the comparison.",
            unset="the dev images of a run folder; other sources need it",
        ),
    ] = None
    score: Annotated[
        bool, setting("For a run folder: score the bundle on its dev images.", negative=True, panel=_COMPARED)
    ] = True
    also_score: Annotated[
        tuple[Path, ...],
        setting(
            "For a run folder: folders with other copies of some dev images, scored too. Repeatable.", panel=_COMPARED
        ),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Precisions:
    """Which variants a bundle gets, and how they are made and judged."""

    wanted: Annotated[
        tuple[VariantName, ...],
        setting(
            "More graphs besides float32, for run --precision. Their captions are compared. Repeatable.",
            name="precision",
            panel=_PRECISIONS,
        ),
    ] = ()
    calibrate: Annotated[
        tuple[Path, ...],
        setting(
            f"For int8: folders of at least {COMPARED_IMAGES} images like those to be captioned. Repeatable.",
            panel=_PRECISIONS,
        ),
    ] = ()
    """int8 takes its ranges from them."""
    references: Annotated[
        Path | None,
        setting(
            "Captions (as for train) of at least 500 compared images. A precision may lose 1% of CIDEr.",
            unset="those of a run; without any, 3% of the captions may change",
            panel=_PRECISIONS,
        ),
    ] = None
    """File of captions, see `caption_files.FORMS`; the images are those of the comparison."""
    force: Annotated[
        bool,
        setting(
            "Keep a precision that changes too much. int8 then runs only where it is asked for.", panel=_PRECISIONS
        ),
    ] = False
    """The manifest says so."""
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
