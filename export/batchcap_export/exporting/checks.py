"""What `train`, `distill` and `export` can know before TensorFlow is loaded: missing files, data that does not fit."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from batchcap.bundle.manifest import Generation
from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import DataError, ExportError, MissingExtraError, OptionError, TrainingError
from batchcap_export.data import datasets, images
from batchcap_export.importers.keras.vocabulary import read_vocabulary
from batchcap_export.importers.sources import hook_of, source_kind, take_only
from batchcap_export.options.bundles import MIN_IMAGES, BundleOptions, Precisions
from batchcap_export.options.importing import ImportOptions
from batchcap_export.options.training import (
    DistillOptions,
    Pictures,
    Recipe,
    TrainOptions,
    read_recipe,
)
from batchcap_export.system.places import check_place
from batchcap_export.training.runs import compare, digest, file_digest

SMALL_SIZE = 160
"""Rows and columns of the backbone `small`."""
EXTRA = "Install what is missing: pip install 'batchcap[export,eval]'"
_WEIGHTS = (
    "Name a file (batchcap distill makes one for small), or imagenet for a network of keras.applications, which "
    "downloads them. --weights random is for trying things out: such a network sees little, and no caption fits."
)


def need_modules(*names: str) -> None:
    """Raise unless these modules are installed; nothing is imported.

    Raises:
        MissingExtraError: one is not; it says which extra to install.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            what = (
                "Scores need pycocoevalcap" if name == "pycocoevalcap" else "This command needs TensorFlow and tf2onnx"
            )
            raise MissingExtraError(f"{what} ({name} is not installed).", EXTRA)


# Training


@dataclass(frozen=True, slots=True)
class Plan:
    """What `train` learns from, read and found in order."""

    learn: datasets.CaptionedImages
    dev: datasets.CaptionedImages
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
    captions = datasets.read_captions(options.captions)
    learn = datasets.read_split(options.images, captions, options.train_split)
    dev = datasets.read_split(options.images, captions, options.dev_split)
    datasets.keep_apart(learn, dev, options.train_split, options.dev_split)
    vocabulary = datasets.build_vocabulary(learn.references, options.min_count)
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


def check_small(name: str, weights: str, size: int | None) -> None:
    """What the backbone ``small`` cannot have.

    Raises:
        OptionError: another size, or weights that nobody published.
    """
    if name == "small" and size not in (None, SMALL_SIZE):
        raise OptionError(f"--backbone small is made for {SMALL_SIZE}x{SMALL_SIZE}, not {size}.", "Leave --size out.")
    if name == "small" and weights == "imagenet":
        raise OptionError("--weights imagenet: there are none for small.", "Distil it first: batchcap distill --help.")


def backbone_names() -> tuple[str, ...]:
    """``small`` and the networks of keras.applications, read from its source: importing it takes seconds.

    Empty where the source does not say.
    """
    keras = importlib.util.find_spec("keras")
    source = Path(keras.origin).parent / "applications" / "__init__.py" if keras and keras.origin else None
    if source is None or not source.is_file():
        return ()
    tree = ast.parse(source.read_bytes())
    imported = (name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names)
    networks = sorted(name for name in imported if name[:1].isupper())
    return ("small", *networks) if networks else ()


def _data(options: TrainOptions, learn: datasets.CaptionedImages, dev: datasets.CaptionedImages) -> dict[str, str]:
    """What the recipe says of the data: a split or a caption that changes makes another recipe."""
    out = {}
    for name, split in (("train", learn), ("dev", dev)):
        pairs = zip(split.files, split.references, strict=True)
        out[name] = digest(text for file, captions in pairs for text in (file.name, *captions))
    if options.weights not in (None, "random", "imagenet"):
        out["weights"] = file_digest(Path(str(options.weights)))
    return out


# Distilling


@dataclass(frozen=True, slots=True)
class DistilledFiles:
    """The images of a distillation, those that are held out apart."""

    main: list[Path]
    extra: list[Path]
    held_out: list[Path]


def check_distilling(teacher: Path, pictures: Pictures, run: Path, options: DistillOptions) -> DistilledFiles:
    """Find the images of a distillation, and whatever would end it later.

    Raises:
        DataError: a folder or file of names that is missing, or does not fit.
        OptionError: a batch that is larger than everything.
        OutputError: ``run`` cannot be a folder.
        TrainingError: no such teacher.
    """
    check_place(run, run_folder=True)
    if not teacher.is_file():
        raise TrainingError(f"{teacher}: no such teacher network.", "Give a .keras file.")
    held = _named(pictures.held_out, [pictures.held_out_names] if pictures.held_out_names else [])
    apart = {path.resolve() for path in held}
    main = [p for p in _named(pictures.folders[0], pictures.names) if p.resolve() not in apart]
    extra = [p for folder in pictures.folders[1:] for p in images.find_images(folder) if p.resolve() not in apart]
    if not main:
        raise DataError(
            f"{pictures.folders[0]}: every image here is held out.",
            "Hold out fewer: another --held-out folder, or --held-out-names.",
        )
    views = len(main) * options.views + len(extra) * options.extra_views
    if views < options.batch_size:
        raise OptionError(
            f"--batch-size {options.batch_size}: there are only {views} views of all images.", "Take a smaller one."
        )
    return DistilledFiles(main, extra, held)


def _named(folder: Path, names: Sequence[Path]) -> list[Path]:
    """The images of ``folder`` that the files name, by stem and in their order; all where there is no file."""
    found = images.find_images(folder)
    if not names:
        return found
    by_stem = {path.stem: path for path in found}
    wanted = [name for file in names for name in _names(file)]
    missing = [name for name in wanted if Path(name).stem not in by_stem]
    if missing:
        raise DataError(
            f"{folder}: has no image for {len(missing)} of the {len(wanted)} names in {', '.join(map(str, names))}, "
            f"such as {', '.join(missing[:5])}.",
            "Remove the names, or add the images.",
        )
    return [by_stem[stem] for stem in dict.fromkeys(Path(name).stem for name in wanted)]


def _names(file: Path) -> Iterable[str]:
    if not file.is_file():
        raise DataError(f"{file}: no such file of image names.", "One image name a line.")
    return datasets.read_names(file)


# Exporting


def check_export(
    source: str,
    how: ImportOptions,
    output: Path,
    options: BundleOptions,
    folder: Path | None,
    scored: bool,
    copies: Sequence[Path],
    *,
    precisions: Precisions,
) -> None:
    """Find whatever would end an export later; the arguments are those of `bundling.export_run` and `export_source`.

    Raises:
        OptionError: options that do not go together, or defaults that no run would take.
        DataError: a folder, a split or captions that are missing, or too few images.
        OutputError: ``output`` exists, or cannot be made.
        ExportError: nothing that can be exported.
        MissingExtraError: scores are wanted, and what computes them is not installed.
    """
    check_place(output)
    options.generation(Generation())
    run = is_run(source)
    if copies and not run:
        raise OptionError("--also-score goes with a run folder of batchcap train.", "Leave it out.")
    scores = run and (scored or copies)
    if scores or (precisions.wanted and precisions.references):
        need_modules("pycocoevalcap")
    check_source(source, how, folder, dev=bool(scores))
    if not run and hook_of(source) is None:
        if how.vocabulary is None:
            words = "word_counts.txt" if source_kind(source, how).name == "im2txt" else "FILE"
            raise ExportError(f"{source}: does not hold its words.", f"Name the file that does: --vocabulary {words}.")
        if options.store != "float32":
            raise OptionError(
                f"--store {options.store}: only a run of batchcap train can be rounded.",
                "Leave it out, or see --precision.",
            )
    for other in (*copies, *precisions.calibrate):
        check_images(other, 1)
    if precisions.references is not None:
        datasets.read_captions(precisions.references)


def check_source(source: str, how: ImportOptions, folder: Path | None, *, dev: bool = False) -> None:
    """Find what would keep a source from being opened, or compared on ``folder``; None: on a run's dev images.

    Args:
        dev: the dev images of a run are needed besides.

    Raises:
        ExportError: no such source, file or run, or an option that does not go with it.
        DataError: a folder, a split or captions that are missing, or too few images.
    """
    if is_run(source):
        take_only(source, how)
        trained, _ = read_recipe(Path(source))
        if dev or folder is None:
            found = len(dev_images(trained))
            if folder is None and found < MIN_IMAGES:
                raise DataError(
                    f"{source}: its {found} dev images are too few to compare on.",
                    f"Name a folder of at least {MIN_IMAGES} images: --images.",
                )
    else:
        _check_files(source, how)
        if folder is None:
            raise DataError(
                f"{source}: there are no images to compare with.",
                f"The comparison needs {MIN_IMAGES} images, not 0. Name a folder of them: --images.",
            )
    if folder is not None:
        check_images(folder, MIN_IMAGES)


def _check_files(source: str, how: ImportOptions) -> None:
    kind, hook = source_kind(source, how).name, hook_of(source)
    file = hook[0] if hook is not None else Path(source)
    if not file.exists() and (kind == "hook" or file.suffix == ".pb"):
        raise ExportError(f"{file}: no such {'Python file' if kind == 'hook' else 'file'}.", "Name one that exists.")
    for option, path in (("--decoder", how.decoder), ("--vocabulary", how.vocabulary)):
        if path is not None and not path.exists():
            raise ExportError(f"{option} {path}: no such file.", "Name one that exists.")
    if kind == "keras" and how.vocabulary is not None:
        read_vocabulary(how.vocabulary)


def is_run(source: str) -> bool:
    """Whether it is a run folder, of `train` or of `distill`."""
    return (Path(source) / "recipe.json").is_file()


def dev_images(trained: TrainOptions) -> datasets.CaptionedImages:
    """The dev images of a run, with their captions as they are now."""
    return datasets.read_split(trained.images, datasets.read_captions(trained.captions), trained.dev_split)


def check_images(folder: Path, least: int) -> None:
    """Refuse a folder with fewer images than ``least``; no more of it than that is listed.

    Raises:
        DataError: the folder is missing, or holds fewer.
    """
    found = len(images.find_images(folder, most=least))
    if found < least:
        raise DataError(f"{folder}: holds {found} images; {least} are needed.", "Name a folder with more.")
