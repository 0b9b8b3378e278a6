"""Precision variants in a manifest: pairs of graphs with their figures, and what cannot be right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bundles import reseal
from variants import broken, build_variants, variant

from batchcap.bundle.bundle import open_bundle
from batchcap.errors import BundleError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three; int8 may stand in for fp32."""
    return build_variants(tmp_path_factory.mktemp("bundles") / "tiny", fp16=variant(), int8=variant(changed=0))


def test_a_manifest_without_variants_stays_as_it_is(tiny_bundle: Path, tmp_path: Path) -> None:
    assert b"variants" not in (tiny_bundle / "bundle.json").read_bytes()
    assert open_bundle(tiny_bundle).variants == {}
    assert b'"variants"' in (build_variants(tmp_path / "tiny", fp16=variant()) / "bundle.json").read_bytes()


def test_half_a_pair(folder: Path, tmp_path: Path) -> None:
    def lose(copy: Path) -> None:
        (copy / "decoder.int8.onnx").unlink()
        reseal(copy)

    with pytest.raises(BundleError, match=r"decoder.int8.onnx is not listed - at `\$.variants.int8`"):
        open_bundle(broken(folder, tmp_path, lose))


def test_graphs_that_no_variant_speaks_of(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"decoder.int8.onnx, but there is no `\$.variants.int8`"):
        open_bundle(broken(folder, tmp_path, lambda copy: reseal(copy, variants={"fp16": variant()})))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"images": 0}, r"at `\$.variants\[...\].images`"),
        ({"changed": -1}, r"at `\$.variants\[...\].changed`"),
        ({"changed": 1001}, r"1001 of 1000 captions - at `\$.variants.int8`"),
        ({"cider": 0.4}, r"one of cider and cider_fp32 without the other - at `\$.variants.int8`"),
    ],
)
def test_figures_that_cannot_be(fields: dict[str, Any], told: str, folder: Path, tmp_path: Path) -> None:
    spoilt = {"fp16": variant(), "int8": variant(**fields)}
    with pytest.raises(BundleError, match=told):
        open_bundle(broken(folder, tmp_path, lambda copy: reseal(copy, variants=spoilt)))


def test_an_unknown_precision_in_the_manifest(folder: Path, tmp_path: Path) -> None:
    def rename(copy: Path) -> None:
        content = json.loads((copy / "bundle.json").read_bytes())
        content["variants"]["fp8"] = content["variants"].pop("int8")
        (copy / "bundle.json").write_text(json.dumps(content))

    with pytest.raises(BundleError, match=r"fp8.*at `key` in `\$.variants`"):
        open_bundle(broken(folder, tmp_path, rename))
