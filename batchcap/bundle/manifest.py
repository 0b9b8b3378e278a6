"""The manifest of a bundle, ``bundle.json``: its fields, and what must hold between them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from batchcap.bundle.detokenizer import Text
from batchcap.bundle.files import FileEntry
from batchcap.errors import BundleError
from batchcap.images.preprocess import Preprocess
from batchcap.options.decoding import Search, has_beam, largest_penalty
from batchcap.options.precision import Precision, VariantName

MANIFEST_VERSION: Final = 1
MANIFEST_FILE: Final = "bundle.json"
ENCODER_FILE: Final = "encoder.onnx"
DECODER_FILE: Final = "decoder.onnx"
SELECT_FILE: Final = "select.onnx"
VOCABULARY_FILE: Final = "vocabulary.txt"
CARD_FILE: Final = "MODEL_CARD.md"
BUNDLE_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
"""What a bundle may be called, as a regular expression: it becomes part of file names and of every record."""
_VARIANT_FILE: Final = re.compile(r"(?:encoder|decoder|select)\.(.+)\.onnx")
# Far above any captioner: larger numbers would only take memory.
_MAX_WORDS: Final = 1_000_000
_MAX_SIDE: Final = 8192

Count = Annotated[int, msgspec.Meta(ge=1)]
Side = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Token = Annotated[int, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(pattern=rf"^{BUNDLE_NAME}\Z")]


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Ids of the tokens that are no words."""

    start: Token
    end: Token
    unknown: Token | None = None
    padding: Token | None = None


class Generation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How this model captions best; see `batchcap.options.decoding.DecodingOptions`."""

    search: Search = "beam"
    beam_size: Annotated[int, msgspec.Meta(ge=1, le=256)] = 3
    """1 where the search has no beam."""
    max_length: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    length_penalty: Annotated[float, msgspec.Meta(ge=0)] = 0.7

    @property
    def method(self) -> str:
        """``beam 3``, ``greedy``, ``sample`` or ``im2txt 3``: as messages name it."""
        return f"{self.search} {self.beam_size}" if has_beam(self.search) else self.search


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A score, and every setting that it depends on."""

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
    """``auto`` may choose it instead of fp32."""
    signature: str
    """Every setting that the figures depend on."""

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


def graph_file(name: str, precision: Precision) -> str:
    """``encoder.onnx``, or ``encoder.int8.onnx``."""
    return name if precision == "fp32" else f"{name.removesuffix('.onnx')}.{precision}.onnx"


class _Version(msgspec.Struct):
    format_version: int


def parse_manifest(path: Path, text: bytes) -> Manifest:
    """Read and check the bytes of a manifest; the version first, so that a newer one is not called broken.

    Args:
        path: the file that they come from, for messages.
        text: its bytes.

    Raises:
        BundleError: they are no manifest, or one whose fields contradict each other.
    """
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
        raise BundleError(f"{path}: images of {max(sides)} rows or columns are too large - at `$.preprocess`.")
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
