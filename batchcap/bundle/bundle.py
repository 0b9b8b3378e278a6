"""A model as a folder of plain files: the manifest, and the checks that make a bundle safe to open."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from batchcap.bundle.detokenizer import Text, has_pieces
from batchcap.bundle.files import (
    FileEntry,
    entry_of,
    name_problem,
    read_small,
    verify_file,
    verify_references,
)
from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import BundleError, OptionError
from batchcap.images.preprocess import Preprocess
from batchcap.options.options import (
    Precision,
    Search,
    VariantName,
    has_beam,
    largest_penalty,
)

MANIFEST_VERSION: Final = 1
MANIFEST_FILE: Final = "bundle.json"
ENCODER_FILE: Final = "encoder.onnx"
DECODER_FILE: Final = "decoder.onnx"
SELECT_FILE: Final = "select.onnx"
VOCABULARY_FILE: Final = "vocabulary.txt"
CARD_FILE: Final = "MODEL_CARD.md"
_VARIANT_FILE: Final = re.compile(r"(?:encoder|decoder|select)\.(.+)\.onnx")
_REQUIRED: Final = (ENCODER_FILE, DECODER_FILE, VOCABULARY_FILE, CARD_FILE)
_MAX_MANIFEST: Final = 4 * 1024 * 1024
# Far above any captioner; what is larger asks for memory, not for captions.
_MAX_WORDS: Final = 1_000_000
_MAX_SIDE: Final = 8192
_EMBEDDED: Final = Path(__file__).parents[1] / "models"

Count = Annotated[int, msgspec.Meta(ge=1)]
Side = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Token = Annotated[int, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*\Z")]


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Ids of the tokens that are no words."""

    start: Token
    end: Token
    unknown: Token | None = None
    padding: Token | None = None


class Generation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How this model captions best; see `batchcap.options.options.DecodingOptions`."""

    search: Search = "beam"
    beam_size: Annotated[int, msgspec.Meta(ge=1, le=256)] = 3
    """1 where the search has no beam."""
    max_length: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    length_penalty: Annotated[float, msgspec.Meta(ge=0)] = 0.7

    @property
    def method(self) -> str:
        """``beam 3``, ``greedy``, ``sample`` or ``im2txt 3``: what people are told."""
        return f"{self.search} {self.beam_size}" if has_beam(self.search) else self.search


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A score, and every setting behind it."""

    name: str
    value: float
    signature: str


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a model comes from."""

    architecture: str
    data: str
    terms: str
    """Who may use it, and for what."""
    recipe: dict[str, Any] = {}
    metrics: list[Metric] = []


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Another precision of the graphs, and what it costs: its captions beside those of fp32."""

    images: Count
    """Images captioned by both."""
    changed: Annotated[int, msgspec.Meta(ge=0)]
    """Captions that differ."""
    cider: float | None = None
    """CIDEr, where there were references; else None."""
    cider_fp32: float | None = None
    """CIDEr of fp32 on the same images."""
    equivalent: bool
    """It may stand in for fp32 unasked."""
    signature: str
    """Every setting behind the figures."""

    @property
    def share(self) -> float:
        """Share of the captions that differ."""
        return self.changed / self.images


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of ``bundle.json``."""

    format_version: int = MANIFEST_VERSION
    name: Name
    version: str
    preprocess: Preprocess
    tokens: Tokens
    vocabulary_size: Annotated[int, msgspec.Meta(ge=1, le=_MAX_WORDS)]
    generation: Generation = Generation()
    text: Text = Text()
    """How the words are written; scores and comparisons are of the words themselves."""
    attention_grid: tuple[Side, Side] | None = None
    """Rows and columns of the regions that ``attention`` weighs; None where the decoder gives none."""
    provenance: Provenance
    tools: dict[str, str] = {}
    """Versions of what made the graphs."""
    opset: Count
    variants: dict[VariantName, Variant] | msgspec.UnsetType = msgspec.UNSET
    """Further precisions, each with an ``encoder.NAME.onnx`` and ``decoder.NAME.onnx``."""
    files: dict[str, FileEntry] = {}
    """Every other file of the folder. `write_manifest` fills it in."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle."""

    folder: Path
    manifest: Manifest
    vocabulary: Vocabulary
    digest: str
    """SHA-256 of ``bundle.json``, in hex; it holds the sums of all other files, so it stands for the whole bundle."""
    precision: Precision = "fp32"
    """Which of its graphs are meant."""

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
        """Where the bundle has the graph by which images leave the batch."""
        name = graph_file(SELECT_FILE, self.precision)
        return self.folder / name if name in self.manifest.files else None

    @property
    def variants(self) -> dict[VariantName, Variant]:
        """What it has beside fp32."""
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


def graph_file(name: str, precision: Precision) -> str:
    """``encoder.onnx``, or ``encoder.int8.onnx``."""
    return name if precision == "fp32" else f"{name.removesuffix('.onnx')}.{precision}.onnx"


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
    return folder, _parse(path, text), hashlib.sha256(text).hexdigest()


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


class _Version(msgspec.Struct):
    format_version: int


def _parse(path: Path, text: bytes) -> Manifest:
    """The manifest of ``text``; its version is read first, so that a newer one is not called broken."""
    try:
        version = msgspec.json.decode(text, type=_Version).format_version
        if version != MANIFEST_VERSION:
            raise BundleError(
                f"{path}: format_version {version} is not known here, only {MANIFEST_VERSION}.",
                "Upgrade batchcap." if version > MANIFEST_VERSION else "Export the model again.",
            )
        manifest = msgspec.json.decode(text, type=Manifest)
        # msgspec forbids unknown fields in its own structs only.
        known = {field.name for field in dataclasses.fields(Preprocess)}
        unknown = sorted(msgspec.json.decode(text)["preprocess"].keys() - known)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path}: {error}.", "Export the model again.") from None
    if unknown:
        raise BundleError(f"{path}: unknown field `{unknown[0]}` - at `$.preprocess`.", "Export the model again.")
    _check(path, manifest)
    return manifest


def _check(path: Path, manifest: Manifest) -> None:
    """What holds between the fields of a manifest."""
    how = manifest.preprocess
    sides = (how.height, how.width, how.resize_height, how.resize_width)
    fits = {
        "stretch": (how.height, how.width) == (how.resize_height, how.resize_width),
        "center-crop": how.height <= how.resize_height and how.width <= how.resize_width,
        "pad": how.height >= how.resize_height and how.width >= how.resize_width,
    }
    if max(sides) > _MAX_SIDE:
        raise BundleError(f"{path}: pictures of {max(sides)} rows or columns are too large - at `$.preprocess`.")
    if min(sides) < 1 or not fits[how.fit]:
        raise BundleError(
            f"{path}: a resize to {how.resize_height}x{how.resize_width} and fit `{how.fit}` cannot give"
            f" {how.height}x{how.width} - at `$.preprocess`."
        )
    ids = {name: getattr(manifest.tokens, name) for name in manifest.tokens.__struct_fields__}
    for name, token in ids.items():
        if token is not None and token >= manifest.vocabulary_size:
            raise BundleError(
                f"{path}: token {token} is not among {manifest.vocabulary_size} words - at `$.tokens.{name}`."
            )
    own = manifest.generation
    if own.beam_size > 1 and not has_beam(own.search):
        raise BundleError(
            f"{path}: {own.search} search has no beam of {own.beam_size}, only of 1 - at `$.generation.beam_size`."
        )
    if own.length_penalty > largest_penalty(own.search):
        raise BundleError(
            f"{path}: {own.length_penalty:g} is above {largest_penalty(own.search):g}, the most of {own.search} search"
            " - at `$.generation.length_penalty`."
        )
    _check_variants(path, manifest)


def _check_variants(path: Path, manifest: Manifest) -> None:
    """A variant is a pair of graphs and what it costs: none of the three comes alone."""
    variants = {} if manifest.variants is msgspec.UNSET else manifest.variants
    for name, variant in variants.items():
        at = f"at `$.variants.{name}`"
        for graph in (graph_file(ENCODER_FILE, name), graph_file(DECODER_FILE, name)):
            if graph not in manifest.files:
                raise BundleError(f"{path}: {graph} is not listed - {at}.", "Export the model again.")
        if variant.changed > variant.images:
            raise BundleError(f"{path}: changed {variant.changed} of {variant.images} captions - {at}.")
        if (variant.cider is None) != (variant.cider_fp32 is None):
            raise BundleError(f"{path}: one of cider and cider_fp32 without the other - {at}.")
    for file in manifest.files:
        match = _VARIANT_FILE.fullmatch(file)
        if match is not None and match[1] not in variants:
            raise BundleError(f"{path}: {file}, but there is no `$.variants.{match[1]}`.", "Export the model again.")


def _open_vocabulary(folder: Path, manifest: Manifest) -> Vocabulary:
    path = folder / VOCABULARY_FILE
    vocabulary = Vocabulary.load(path)
    if len(vocabulary) != manifest.vocabulary_size:
        raise BundleError(
            f"{path}: has {len(vocabulary)} words, but bundle.json says {manifest.vocabulary_size}.",
            "Export the model again.",
        )
    return vocabulary
