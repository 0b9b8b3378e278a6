"""float16 and int8 variants of a real bundle: what their graphs hold, how they are judged, when they are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from paths import TESTS
from PIL import Image
from typer.testing import CliRunner, Result

from batchcap_export.packaging import bundle_files

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_captioner import captioner

from batchcap.bundle.bundle import Bundle, open_bundle
from batchcap.cli.app import app
from batchcap.errors import ExportError
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.precision import in_precision
from batchcap_export.convert.lowering import in_float16
from batchcap_export.options.bundles import BundleOptions, Precisions
from batchcap_export.packaging.bundling import export_model
from batchcap_export.packaging.precision import add_variants
from batchcap_export.packaging.trial import prepare_trial
from batchcap_export.proof.evaluate import Evaluation, caption_files

SOURCE = TESTS / "tiny_captioner.py"
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
Say = list[str]


def write_pictures(folder: Path, count: int, seed: int) -> list[Path]:
    """Pictures of soft coloured patches."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    files = [folder / f"{index:03}.png" for index in range(count)]
    for file in files:
        patches = random.integers(0, 256, (*random.integers(2, 6, 2), 3)).astype(np.uint8)
        Image.fromarray(patches).resize((48, 40), Image.Resampling.BICUBIC).save(file)
    return files


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds 64 pictures to judge with, and 64 others to calibrate with."""
    folder = tmp_path_factory.mktemp("precision")
    write_pictures(folder / "judge", 64, seed=2)
    write_pictures(folder / "calibrate", 64, seed=3)
    return folder


@pytest.fixture(scope="module")
def plain(place: Path) -> Bundle:
    """Real architecture, random weights, in float32."""
    return bundle_files.write_bundle(captioner(), place / "plain", BundleOptions(name="plain"), "float32")


def judge(place: Path) -> list[Path]:
    return sorted((place / "judge").iterdir())


def lower(plain: Bundle, place: Path, folder: Path, how: Precisions, said: Say | None = None) -> Bundle:
    """A copy of the bundle with variants, in memory."""
    shutil.copytree(plain.folder, folder)
    trial = prepare_trial(how, judge(place), [])
    return add_variants(replace(plain, folder=folder), trial, (said if said is not None else []).append)


@pytest.fixture(scope="module")
def both(plain: Bundle, place: Path) -> Bundle:
    how = Precisions(wanted=("int8", "fp16"), calibrate=(place / "calibrate",), force=True, changed_limit=1.0)
    return lower(plain, place, place / "both", how)


def types(graph: onnx.GraphProto) -> dict[str, int]:
    """Element type of every tensor, by name."""
    inferred = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    typed = (*inferred.graph.input, *inferred.graph.output, *inferred.graph.value_info)
    return {t.name: t.type.tensor_type.elem_type for t in typed} | {t.name: t.data_type for t in graph.initializer}


def sides(graph: onnx.GraphProto) -> dict[str, int]:
    return {t.name: t.type.tensor_type.elem_type for t in (*graph.input, *graph.output)}


def load(bundle: Bundle, name: str) -> onnx.GraphProto:
    return onnx.load(bundle.folder / name).graph


# float16


def test_float16_lies_where_it_should(both: Bundle) -> None:
    for name in ("encoder", "decoder"):
        before, after = (sides(load(both, f"{name}{precision}.onnx")) for precision in ("", ".fp16"))
        assert before.keys() == after.keys()
        for tensor, kind in before.items():
            carried = tensor.startswith(("state.", "next_state.", "memory."))
            assert after[tensor] == (HALF if carried and kind == FLOAT else kind), tensor
        graph = load(both, f"{name}.fp16.onnx")
        kinds = types(graph)
        heavy = [node for node in graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
        assert heavy
        assert {kinds[given] for node in heavy for given in node.input} == {HALF}
        big = [tensor for tensor in graph.initializer if np.prod(tensor.dims) > 64 and tensor.data_type == FLOAT]
        assert big == []


def test_delicate_formulas_stay_float32(both: Bundle) -> None:
    graph = load(both, "decoder.fp16.onnx")
    kinds = types(graph)
    delicate = {"Softmax", "LogSoftmax", "TopK", "ReduceMean", "Sqrt", "Reciprocal"}
    found = [node for node in graph.node if node.op_type in delicate]
    assert {node.op_type for node in found} == delicate
    assert {kinds[node.input[0]] for node in found} == {FLOAT}
    # The variance: what is squared and what is averaged are float32, and so is all between.
    makes = {name: node for node in graph.node for name in node.output}
    squares = [node for node in graph.node if node.op_type == "Mul" and node.input[0] == node.input[1]]
    assert [kinds[node.input[0]] for node in squares] == [FLOAT]
    # From the log-softmax to the output no value passes through float16.
    name, passed = "log_prob", []
    while makes[name].op_type != "LogSoftmax":
        passed.append(kinds[name])
        name = makes[name].input[0]
    assert set(passed) == {FLOAT}


def test_float16_says_nearly_the_same(both: Bundle, place: Path) -> None:
    decoding, cpu = decoding_options(both.manifest), choose_device("cpu")
    exact, rounded = Captioner(both, decoding, cpu), Captioner(both.at("fp16"), decoding, cpu)
    pairs = list(zip(exact.caption(judge(place)), rounded.caption(judge(place)), strict=True))
    same = [(a.captions[0], b.captions[0]) for a, b in pairs if a.captions[0].caption == b.captions[0].caption]
    assert len(same) >= 60
    assert max(abs(a.log_prob - b.log_prob) for a, b in same) > 0
    assert max(abs(a.log_prob - b.log_prob) for a, b in same) < 0.05


def square_of_large(folder: Path) -> Path:
    """mean((x - mean(x)) ** 2) of numbers around 1,000: the squares do not fit in float16."""
    value, node = helper.make_tensor_value_info, helper.make_node
    nodes = [
        node("ReduceMean", ["memory.x", "axis"], ["mean"], name="mean"),
        node("Sub", ["memory.x", "mean"], ["off"], name="off"),
        node("Mul", ["off", "off"], ["square"], name="square"),
        node("ReduceMean", ["square", "axis"], ["variance"], name="variance"),
    ]
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    ends = [value("memory.x", FLOAT, ["B", 8])], [value("variance", FLOAT, ["B", 1])]
    opset = [helper.make_opsetid("", 18)]
    file = folder / "square.onnx"
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "square", *ends, [axis]), opset_imports=opset, ir_version=8), file
    )
    return file


def test_a_variance_does_not_overflow(tmp_path: Path) -> None:
    model = in_float16(square_of_large(tmp_path))
    run = onnx.reference.ReferenceEvaluator(model)
    x = np.linspace(-1000, 1000, 8, dtype=np.float16)[None]
    (variance,) = run.run(None, {"memory.x": x})
    assert variance == pytest.approx(x.astype(np.float64).var(), rel=1e-3)


# int8


def test_int8_lies_where_it_should(both: Bundle) -> None:
    for name in ("encoder", "decoder"):
        graph = load(both, f"{name}.int8.onnx")
        assert sides(graph) == sides(load(both, f"{name}.onnx"))
        weights = {tensor.name: tensor for tensor in graph.initializer}
        folded = {
            node.output[0]: weights[node.input[0]]
            for node in graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in weights
        }
        layers = {"Conv", "Gemm", "MatMul"}
        quantized = [node for node in graph.node if node.op_type in layers and node.input[1] in folded]
        assert len(quantized) == {"encoder": 1, "decoder": 2}[name]
        assert {folded[node.input[1]].data_type for node in quantized} == {TensorProto.INT8}
        scales = {node.output[0]: weights[node.input[1]] for node in graph.node if node.op_type == "DequantizeLinear"}
        for node in quantized:  # a scale for each output channel
            axis = 0 if node.op_type == "Conv" else 1
            assert list(scales[node.input[1]].dims) == [folded[node.input[1]].dims[axis]]


def test_the_layers_before_the_results_stay_float32(both: Bundle) -> None:
    for name, result in (("encoder", "memory.regions"), ("decoder", "log_prob")):
        output, graph = result, load(both, f"{name}.int8.onnx")
        makes = {made: node for node in graph.node for made in node.output}
        weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
        while not (makes[output].op_type == "MatMul" and makes[output].input[1] in weights):
            output = makes[output].input[0]
        assert weights[makes[output].input[1]] == FLOAT


# Judgement


def test_changed_captions_are_counted(both: Bundle, place: Path) -> None:
    files = judge(place)
    for name, variant in both.variants.items():
        before, after = caption_files(both.at("fp32"), files), caption_files(both.at(name), files)
        assert (variant.images, variant.changed) == (64, sum(a != b for a, b in zip(before, after, strict=True)))
        assert (variant.cider, variant.equivalent) == (None, True)
        assert "beam3" in variant.signature
    assert "calibrated with 64 images" in both.variants["int8"].signature
    assert in_precision(both, "auto", choose_device("cpu")).precision == "int8"


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
    assert "QuantizeLinear" in {node.op_type for node in load(bundle, "encoder.int8.onnx").node}
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
    """A folder of 564 pictures, and a file with what fp32 says of them as references.

    An empty caption is no reference: a picture of which fp32 says nothing is given another one.
    """
    folder = place / "many"
    files = write_pictures(folder, 564, seed=4)
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


def test_pictures_that_calibrate_do_not_judge(place: Path, many: tuple[Path, Path], tmp_path: Path) -> None:
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
    with pytest.raises(ExportError, match="0 of the compared images calibrate nothing; 64 are needed"):
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
    write_pictures(tmp_path / "few", 5, seed=1)
    with pytest.raises(ExportError, match=told):
        make()


# The command


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def test_export_info_run(place: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    done = call(
        "export", SOURCE, "-o", made, "--images", place / "judge", "--precision", "int8", "--precision", "fp16",
        "--calibrate", place / "calibrate", "--force",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "int8: " in done.stderr
    bundle = open_bundle(made)
    assert set(bundle.variants) == {"fp16", "int8"}
    assert "fp16: " in (made / "MODEL_CARD.md").read_text(encoding="utf-8")
    shown = call("info", made)
    assert "Precisions beside fp32" in shown.stdout
    for name in ("fp16", "int8"):
        ran = call("run", place / "judge", "-o", "-", "-q", "--device", "cpu", "--model", made, "--precision", name)
        assert ran.exit_code == 0, ran.output
        records = [json.loads(line) for line in ran.stdout.splitlines()]
        assert {record["model"] for record in records} == {f"{bundle.label}+{name}"}
        assert len({record["caption"] for record in records}) > 10
