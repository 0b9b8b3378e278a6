"""A bundle: a model as a folder of plain files, and the checks that make it safe to open."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from batchcap.bundle.detokenizer import Text, has_pieces
from batchcap.bundle.files import entry_of, name_problem, read_small, verify_file, verify_references
from batchcap.bundle.manifest import (
    CARD_FILE,
    DECODER_FILE,
    ENCODER_FILE,
    MANIFEST_FILE,
    SELECT_FILE,
    VOCABULARY_FILE,
    Manifest,
    Variant,
    graph_file,
    parse_manifest,
)
from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import BundleError, OptionError
from batchcap.options.precision import Precision, VariantName

_REQUIRED: Final = (ENCODER_FILE, DECODER_FILE, VOCABULARY_FILE, CARD_FILE)
_MAX_MANIFEST: Final = 4 * 1024 * 1024
_EMBEDDED: Final = Path(__file__).parents[1] / "models"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle."""

    folder: Path
    manifest: Manifest
    vocabulary: Vocabulary
    digest: str
    """SHA-256 of ``bundle.json``, in hex; it holds the sums of all other files, so it stands for the whole bundle."""
    precision: Precision = "fp32"
    """The precision of the graphs that are used."""

    @property
    def label(self) -> str:
        """``flickr8k-small@3f9a0c12``, or ``...+int8`` where that is the precision: what a record says of its model."""
        precision = "" if self.precision == "fp32" else f"+{self.precision}"
        return f"{self.manifest.name}@{self.digest[:8]}{precision}"

    def with_text(self, text: Text) -> Bundle:
        """The same model, its words written as ``text`` says."""
        return dataclasses.replace(self, manifest=msgspec.structs.replace(self.manifest, text=text))

    @property
    def encoder_path(self) -> Path:
        return self.folder / graph_file(ENCODER_FILE, self.precision)

    @property
    def decoder_path(self) -> Path:
        return self.folder / graph_file(DECODER_FILE, self.precision)

    @property
    def select_path(self) -> Path | None:
        """The graph that takes finished images out of the batch; None where the bundle has none."""
        name = graph_file(SELECT_FILE, self.precision)
        return self.folder / name if name in self.manifest.files else None

    @property
    def variants(self) -> dict[VariantName, Variant]:
        """Its precisions beside fp32."""
        return {} if self.manifest.variants is msgspec.UNSET else self.manifest.variants

    def at(self, precision: Precision) -> Bundle:
        """The same bundle with the graphs of another precision.

        Raises:
            OptionError: it has none.
        """
        if precision != "fp32" and precision not in self.variants:
            has = ", ".join(("fp32", *self.variants)) if self.variants else "fp32 only"
            raise OptionError(f"--precision {precision}: {self.manifest.name} has {has}.", "Use what it has, or auto.")
        return dataclasses.replace(self, precision=precision)


def embedded_names() -> list[str]:
    """The bundles that come with batchcap."""
    return sorted(path.parent.name for path in _EMBEDDED.glob(f"*/{MANIFEST_FILE}"))


def open_bundle(model: str | Path) -> Bundle:
    """Open and verify a bundle: everything but its graphs' tensors, which `batchcap.runtime.sessions` checks.

    Args:
        model: the name of an embedded bundle, or a bundle's folder (``./name`` where an embedded one is called so too).

    Raises:
        BundleError: it is no bundle, or not what its manifest says; the message names the file.
    """
    folder, manifest, digest = read_manifest(model)
    for problem in file_problems(folder, manifest):
        raise problem
    vocabulary = _open_vocabulary(folder, manifest)
    scheme = manifest.text.subwords
    if scheme is not None and not has_pieces(vocabulary.words, scheme):
        path = folder / MANIFEST_FILE
        raise BundleError(f"{path}: no word of the vocabulary is marked as {scheme} marks it - at `$.text.subwords`.")
    return Bundle(folder, manifest, vocabulary, digest)


def read_manifest(model: str | Path) -> tuple[Path, Manifest, str]:
    """The folder of a bundle, what its manifest says, and the digest of that; no other file is looked at.

    Raises:
        BundleError: it is no bundle, or its manifest is not in order.
    """
    folder = _EMBEDDED / model if isinstance(model, str) and model in embedded_names() else Path(model)
    path = folder / MANIFEST_FILE
    try:
        text = read_small(path, _MAX_MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        what = "has no bundle.json" if folder.is_dir() else "is a file" if folder.exists() else "no such folder"
        names = ", ".join(embedded_names())
        known = f", or an embedded one: {names}" if names else ""
        raise BundleError(f"{model}: not a bundle ({what}).", f"Name the folder of a bundle{known}.") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror or error}.") from None
    return folder, parse_manifest(path, text), hashlib.sha256(text).hexdigest()


def file_problems(folder: Path, manifest: Manifest) -> Iterator[BundleError]:
    """Every way in which the files differ from the manifest: one missing, altered, or in need of what is not listed."""
    path = folder / MANIFEST_FILE
    for name in _REQUIRED:
        if name not in manifest.files:
            yield BundleError(f"{path}: {name} is not listed - at `$.files`.")
    names = name_problem(manifest.files)
    if names:  # none of them is opened then
        yield BundleError(f"{path}: {names} - at `$.files`.")
        return
    for name, entry in manifest.files.items():
        try:
            verify_file(folder / name, entry)
            if name.endswith(".onnx"):
                verify_references(folder / name, manifest.files)
        except BundleError as problem:
            yield problem


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``bundle.json`` over whatever else lies in ``folder``: the last step of making a bundle.

    Args:
        folder: holds all other files of the bundle.
        manifest: its ``files`` are replaced by the sizes and sums of what is there.

    Raises:
        BundleError: the folder holds something that is no plain file.
    """
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name == MANIFEST_FILE:
            continue
        if not path.is_file() or path.is_symlink():
            raise BundleError(f"{path}: a bundle holds plain files only.")
        files[path.name] = entry_of(path)
    problem = name_problem(files)
    if problem:
        raise BundleError(f"{folder}: {problem}.")
    full = msgspec.structs.replace(manifest, files=files)
    text = msgspec.json.format(msgspec.json.encode(full, order="sorted"), indent=2)
    (folder / MANIFEST_FILE).write_bytes(text + b"\n")


def _open_vocabulary(folder: Path, manifest: Manifest) -> Vocabulary:
    path = folder / VOCABULARY_FILE
    vocabulary = Vocabulary.load(path)
    if len(vocabulary) != manifest.vocabulary_size:
        raise BundleError(
            f"{path}: has {len(vocabulary)} words, but bundle.json says {manifest.vocabulary_size}.",
            "Export the model again.",
        )
    return vocabulary
