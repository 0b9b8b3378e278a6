"""Precision variants: a finished bundle's graphs once more in float16 or int8, judged by the captions they give.

They are made from the bundle's float32 graphs, whatever those were converted from, and the runtime itself captions with
both.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import onnx
from msgspec import structs

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.manifest import DECODER_FILE, SELECT_FILE, Variant, graph_file
from batchcap.errors import ExportError
from batchcap.options.precision import VariantName
from batchcap.reporting import Say
from batchcap.runtime.device_choice import choose_device
from batchcap_export.convert.graphs import convert_select
from batchcap_export.convert.lowering import in_float16, in_int8
from batchcap_export.options.bundles import Precisions
from batchcap_export.packaging.calibration import decoder_feeds, encoder_feeds
from batchcap_export.packaging.trial import Trial


def add_variants(bundle: Bundle, trial: Trial, say: Say) -> Bundle:
    """Write the wanted variants into the bundle's folder, each compared with fp32.

    Returns:
        The bundle with the variants in its manifest, which the caller writes.

    Raises:
        ExportError: a variant that costs too much.
    """
    variants: dict[VariantName, Variant] = {}
    for name in trial.how.wanted:
        lowered = replace(bundle, precision=name)
        say(f"{name}: making it, and captioning {len(trial.files)} images of {trial.name}")
        variant = _float16(lowered, trial) if name == "fp16" else _int8(lowered, trial, say)
        say(f"{name}: {_cost(variant)}")
        if not variant.equivalent and not trial.how.force:
            alone = ": it then runs only where it is asked for" if name == "int8" else ""
            more = "More, and more fitting, images for --calibrate may help; or leave" if name == "int8" else "Leave"
            raise ExportError(
                f"--precision {name}: {_cost(variant)}; {_limit(variant, trial.how)}.",
                f"{more} {name} out, or keep it with --force{alone}.",
            )
        variants[name] = variant
    return replace(bundle, manifest=structs.replace(bundle.manifest, variants=variants)) if variants else bundle


def _float16(bundle: Bundle, trial: Trial) -> Variant:
    """Judged on a GPU where there is one: a CPU computes most of it in float32."""
    plain = bundle.at("fp32")
    for path in (plain.encoder_path, plain.decoder_path):
        _write(bundle, path, in_float16(path))
    return trial.judge(bundle, choose_device("auto").name, "float16 graphs")


def _int8(bundle: Bundle, trial: Trial, say: Say) -> Variant:
    """Both graphs in int8; where that costs too much, the encoder alone, which does most of the work."""
    made_of = f"calibrated with {len(trial.calibration)} images"
    # Float32 stay the projection to the memory and the layer before it, and the projection to the words.
    plain = bundle.at("fp32")
    encoder, decoder = plain.encoder_path, plain.decoder_path
    _write(bundle, encoder, in_int8(encoder, encoder_feeds(bundle, trial.calibration), float_layers=2))
    _write(bundle, decoder, in_int8(decoder, decoder_feeds(bundle, trial.calibration), float_layers=1))
    both = trial.judge(bundle, "cpu", f"int8 encoder and decoder {made_of}")
    if both.equivalent:
        return both
    say(f"int8 with its decoder: {_cost(both)}; the decoder stays float32")
    shutil.copyfile(decoder, bundle.decoder_path)
    return trial.judge(bundle, "cpu", f"int8 encoder {made_of}, float32 decoder (in int8: {_cost(both)})")


def _write(bundle: Bundle, source: Path, graph: onnx.ModelProto) -> None:
    """Write a graph of the variant; with the decoder also the select graph."""
    graphs = {source.name: graph}
    if source.name == DECODER_FILE and SELECT_FILE in bundle.manifest.files:
        graphs[SELECT_FILE] = convert_select(graph)
    for name, made in graphs.items():
        (bundle.folder / graph_file(name, bundle.precision)).write_bytes(made.SerializeToString(deterministic=True))


def _cost(variant: Variant) -> str:
    text = f"{variant.changed} of {variant.images} captions changed ({variant.share:.1%})"
    if variant.cider is None or variant.cider_fp32 is None:
        return text
    return f"{text}, CIDEr {variant.cider:.4f} instead of {variant.cider_fp32:.4f}"


def _limit(variant: Variant, how: Precisions) -> str:
    if variant.cider is None:
        return f"{how.changed_limit:.0%} may change without references to score them by (--references)"
    return f"at most {how.cider_limit:.0%} of CIDEr may be lost"
