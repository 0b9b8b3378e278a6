"""What a training learns from, read and checked before TensorFlow is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import OptionError, TrainingError
from batchcap_export.data.caption_files import read_captions
from batchcap_export.data.digests import digest, file_digest
from batchcap_export.data.splits import CaptionedImages, keep_apart, read_split
from batchcap_export.data.words import build_vocabulary
from batchcap_export.options.training import TrainOptions
from batchcap_export.system.extras import need_modules
from batchcap_export.system.places import check_place
from batchcap_export.training.backbone_names import backbone_names, check_small
from batchcap_export.training.recipes import Recipe, compare

_WEIGHTS = (
    "Name a file (batchcap distill makes one for small), or imagenet for a network of keras.applications, which "
    "downloads them. --weights random is for trying things out: such a network sees little, and no caption fits."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What `train` learns from, read and found in order."""

    learn: CaptionedImages
    dev: CaptionedImages
    vocabulary: Vocabulary
    recipe: Recipe


def check_training(options: TrainOptions, run: Path) -> Plan:
    """Read the data of a training, and find whatever would end it later.

    Raises:
        OptionError: no weights for the backbone, a network that is not known, or a size that it cannot have.
        DataError: captions or splits that do not fit together.
        OutputError: ``run`` cannot be a folder.
        TrainingError: no such weights, or a run folder of another recipe.
    """
    need_modules("pycocoevalcap")
    check_place(run, run_folder=True)
    _check_backbone(options)
    captions = read_captions(options.captions)
    learn = read_split(options.images, captions, options.train_split)
    dev = read_split(options.images, captions, options.dev_split)
    keep_apart(learn, dev, options.train_split, options.dev_split)
    vocabulary = build_vocabulary(learn.references, options.min_count)
    recipe = Recipe(asdict(options), _data(options, learn, dev))
    compare(run / "recipe.json", {"options": recipe.options, "data": recipe.data})
    return Plan(learn, dev, vocabulary, recipe)


def _check_backbone(options: TrainOptions) -> None:
    name, weights = options.backbone, options.weights
    known = backbone_names()
    if known and name not in known:
        raise OptionError(f"--backbone {name}: no such network.", f"Known: {', '.join(known)}.")
    if weights is None:
        raise OptionError(
            f"--weights: none are named for the backbone {name}, and it does not learn: it is frozen.", _WEIGHTS
        )
    check_small(name, weights, options.size)
    if weights not in ("random", "imagenet") and not Path(weights).is_file():
        raise TrainingError(f"--weights {weights}: no such file.", _WEIGHTS)


def _data(options: TrainOptions, learn: CaptionedImages, dev: CaptionedImages) -> dict[str, str]:
    """What the recipe says of the data: a split or a caption that changes makes another recipe."""
    out = {}
    for name, split in (("train", learn), ("dev", dev)):
        pairs = zip(split.files, split.references, strict=True)
        out[name] = digest(text for file, captions in pairs for text in (file.name, *captions))
    if options.weights not in (None, "random", "imagenet"):
        out["weights"] = file_digest(Path(str(options.weights)))
    return out
