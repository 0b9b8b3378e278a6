"""Variants are judged: on which images, by which limit, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

pytest.importorskip("tensorflow", reason="the export extra is not installed")

from precisions import Say, judge, lower, write_images
from tiny_captioner import captioner

from batchcap.bundle.bundle import Bundle
from batchcap.errors import ExportError
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.precision_choice import in_precision
from batchcap_export.options.bundles import BundleOptions, Precisions
from batchcap_export.packaging.bundling import export_model
from batchcap_export.packaging.trial import prepare_trial
from batchcap_export.packaging.variants import add_variants
from batchcap_export.proof.evaluate import Evaluation, caption_files


@pytest.fixture(scope="module")
def strict(plain: Bundle, place: Path) -> tuple[Bundle, Say]:
    """Not one caption may change; kept by force."""
    said: Say = []
    how = Precisions(wanted=("int8",), calibrate=(place / "calibrate",), force=True, changed_limit=0.0)
    return lower(plain, place, place / "strict", how, said), said


def test_a_decoder_that_costs_too_much_stays_float32(strict: tuple[Bundle, Say], both: Bundle) -> None:
    bundle, said = strict
    folder, variant = bundle.folder, bundle.variants["int8"]
    assert both.variants["int8"].changed > 0
    assert (folder / "decoder.int8.onnx").read_bytes() == (folder / "decoder.onnx").read_bytes()
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(folder / "encoder.int8.onnx").graph.node}
    assert "the decoder stays float32" in "\n".join(said)
    assert f"float32 decoder (in int8: {both.variants['int8'].changed} of 64" in variant.signature


def test_what_is_kept_by_force_runs_only_where_it_is_asked_for(strict: tuple[Bundle, Say]) -> None:
    bundle, _ = strict
    assert bundle.variants["int8"].changed > 0
    assert not bundle.variants["int8"].equivalent
    assert in_precision(bundle, "auto", choose_device("cpu")).precision == "fp32"
    assert in_precision(bundle, "int8", choose_device("cpu")).precision == "int8"


def test_too_many_changed_captions_leave_no_bundle(place: Path, tmp_path: Path, strict: tuple[Bundle, Say]) -> None:
    changed = strict[0].variants["int8"].changed
    how = Precisions(wanted=("int8",), calibrate=(place / "calibrate",), changed_limit=0.0)
    told = rf"--precision int8: {changed} of 64 captions changed \({changed / 64:.1%}\); 0% may change"
    with pytest.raises(ExportError, match=told) as error:
        export_model(
            captioner(), tmp_path / "no", BundleOptions(name="no"), judge(place), lambda _: None, precisions=how
        )
    assert "--force" in error.value.fix
    assert "--calibrate" in error.value.fix
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def many(place: Path, plain: Bundle) -> tuple[Path, Path]:
    """A folder of 564 images, and a file with what fp32 says of them as references.

    An empty caption is no reference: an image of which fp32 says nothing is given another one.
    """
    folder = place / "many"
    files = write_images(folder, 564, seed=4)
    lines = [
        f"{file.name}#0\t{text or 'nothing'}\n" for file, text in zip(files, caption_files(plain, files), strict=True)
    ]
    (place / "references.txt").write_text("".join(lines), encoding="utf-8")
    return folder, place / "references.txt"


def test_references_decide_by_cider(plain: Bundle, place: Path, many: tuple[Path, Path], tmp_path: Path) -> None:
    """fp32 has the best of scores here, since the references are its own captions; int8 has a lower one."""
    pytest.importorskip("pycocoevalcap", reason="the eval extra is not installed")
    folder, references = many
    shutil.copytree(plain.folder, tmp_path / "refused")
    bundle = replace(plain, folder=tmp_path / "refused")
    how = Precisions(wanted=("int8",), calibrate=(place / "calibrate",), references=references, cider_limit=0.0)
    trial = prepare_trial(how, sorted(folder.iterdir()), [])
    assert len(trial.files) == 564
    told = r"\d+ of 564 captions changed .*CIDEr \d\.\d{4} instead of \d\.\d{4}; at most 0% of CIDEr may be lost"
    with pytest.raises(ExportError, match=told):
        add_variants(bundle, trial, lambda _: None)
    kept = add_variants(bundle, replace(trial, how=replace(how, cider_limit=0.9)), lambda _: None).variants["int8"]
    assert kept.equivalent
    assert kept.cider is not None
    assert kept.cider_fp32 is not None
    assert 0.1 * kept.cider_fp32 < kept.cider < kept.cider_fp32
    assert "references" in kept.signature
    assert "pycocoevalcap" in kept.signature


def test_images_that_calibrate_do_not_judge(place: Path, many: tuple[Path, Path], tmp_path: Path) -> None:
    """Not even as copies under other names."""
    folder, references = many
    files = sorted(folder.iterdir())
    copies = tmp_path / "copies"
    copies.mkdir()
    for file in files[:64]:
        shutil.copy(file, copies / f"copy-of-{file.name}")
    how = Precisions(wanted=("int8",), calibrate=(copies,), references=references)
    assert list(prepare_trial(how, files, []).files) == files[64:]
    with pytest.raises(ExportError, match=r"references.txt: has captions of 499 of .*; 500 are needed") as error:
        prepare_trial(how, files[:-1], [])
    assert "--images" in error.value.fix
    with pytest.raises(ExportError, match="0 of the compared images are not used for calibration; 64 are needed"):
        prepare_trial(replace(how, references=None), files[:64], [])


def test_the_references_of_an_evaluation_judge_where_no_others_are_named(many: tuple[Path, Path]) -> None:
    files = sorted(many[0].iterdir())
    dev = Evaluation("dev", tuple(files), tuple(("a caption",) for _ in files))
    trial = prepare_trial(Precisions(wanted=("fp16",)), files[:64], [dev])
    assert (trial.name, len(trial.files), trial.references) == ("dev", 564, dev.references)
    few = Evaluation("dev", dev.files[:499], dev.references[:499])
    assert prepare_trial(Precisions(wanted=("fp16",)), files[:64], [few]).references is None


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Precisions(wanted=("int8",)), "--precision int8 needs images .* Name a folder .*--calibrate"),
        (lambda: Precisions(calibrate=(Path(),)), "--calibrate goes with --precision int8"),
        (
            lambda: prepare_trial(Precisions(wanted=("int8",), calibrate=(Path("few"),)), [], []),
            "--calibrate: 5 images are too few. Give at least 64",
        ),
        (
            lambda: prepare_trial(Precisions(wanted=("int8",), calibrate=(Path("nowhere"),)), [], []),
            "nowhere: no such folder of images",
        ),
    ],
)
def test_what_is_missing(
    make: Callable[[], object], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "few", 5, seed=1)
    with pytest.raises(ExportError, match=told):
        make()
