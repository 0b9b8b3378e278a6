"""``MODEL_CARD.md``: what a bundle is, its training data, its scores, and the terms of its use."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from batchcap.bundle.manifest import Manifest, Metric
from batchcap_export.proof.parity import Parity

_CARD = """# {name}

An image captioner as a batchcap bundle (format {format_version}, opset {opset}).

| | |
|---|---|
| architecture | {architecture}, {weights:,} weights, {stored} |
| input | {pixels}, {width}x{height}, `{method}`, `{fit}` |
| vocabulary | {vocabulary_size:,} tokens |
| attention | {grid} |
| default decoding | {search}, at most {max_length} words, length penalty {length_penalty:g} |

## Data

{data}

## Terms

{terms}

## Figures

{figures}

## Other precisions

{precisions}

## Equality with the trained model

{parity}

## Recipe

{recipe}

## Tools

{tools}
"""

_STORED: dict[str, str] = {
    "float32": "stored as float32",
    "float16": "the big ones stored as float16 (Cast makes them float32)",
    "int8": "the big ones stored as int8 with one scale an output channel or word (Cast and Mul make them float32)",
}


def model_card(manifest: Manifest, weights: int, parity: Parity, options: dict[str, Any]) -> str:
    """The card as Markdown, from the manifest and what was measured at export."""
    how, provenance = manifest.preprocess, manifest.provenance
    grid = manifest.attention_grid
    return _CARD.format(
        name=manifest.name,
        format_version=manifest.format_version,
        opset=manifest.opset,
        architecture=provenance.architecture,
        weights=weights,
        stored=_STORED[options["store"]],
        pixels=how.pixels,
        width=how.width,
        height=how.height,
        method=how.method,
        fit=how.fit,
        vocabulary_size=manifest.vocabulary_size,
        grid=f"{grid[0]}x{grid[1]} regions" if grid else "none",
        search=manifest.generation.method,
        max_length=manifest.generation.max_length,
        length_penalty=manifest.generation.length_penalty,
        data=provenance.data or "Not stated.",
        terms=provenance.terms or "Not stated: ask whoever trained it before you use it.",
        figures=_figures(provenance.metrics),
        precisions=_precisions(manifest),
        parity=parity.summary() + ".",
        recipe="\n".join(f"- {key}: {value}" for key, value in provenance.recipe.items()) or "Not stated.",
        tools="\n".join(f"- {key} {value}" for key, value in sorted(manifest.tools.items())),
    )


def _precisions(manifest: Manifest) -> str:
    """What each variant costs against float32."""
    variants = {} if manifest.variants is UNSET else manifest.variants
    rows = []
    for name, variant in variants.items():
        figures = f"{variant.changed} of {variant.images} captions differ from float32's"
        if variant.cider is not None and variant.cider_fp32 is not None:
            figures += f", CIDEr {variant.cider:.4f} instead of {variant.cider_fp32:.4f}"
        equal = "equivalent" if variant.equivalent else "not equivalent"
        rows.append(f"- {name}: {figures}; {equal} ({variant.signature})")
    return "\n".join(rows) or "None: float32 only."


def _figures(metrics: list[Metric]) -> str:
    """A table for each signature: a figure means nothing without its settings."""
    parts = []
    for signature in dict.fromkeys(m.signature for m in metrics if m.name != "parity"):
        rows = [f"| {m.name} | {m.value:.4g} |" for m in metrics if m.signature == signature]
        parts.append("\n".join([f"{signature}:", "", "| figure | value |", "|---|---|", *rows]))
    return "\n\n".join(parts) or "None was measured."
