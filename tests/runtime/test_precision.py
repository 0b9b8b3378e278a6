"""Bundles with more than one precision: which graphs run, what a record says of them, and pairs that do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundles import build_bundle, reseal
from onnx import TensorProto, helper
from photos import write_photos
from typer.testing import CliRunner, Result
from variants import broken, build_variants, halved, variant

from batchcap.bundle.bundle import open_bundle
from batchcap.bundle.manifest import Variant, graph_file
from batchcap.cli.app import app
from batchcap.errors import BundleError, MismatchError, OptionError
from batchcap.options.run import RunOptions
from batchcap.run import pipeline
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.device import Device
from batchcap.runtime.precision_choice import in_precision

CPU = Device("cpu", 0, "CPU")
GPU = Device("cuda", 0, "a GPU")
IMAGES = [np.full((20, 30, 3), colour, np.uint8) for colour in ((250, 10, 20), (40, 90, 200), (130, 240, 60))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three; int8 may stand in for fp32."""
    return build_variants(tmp_path_factory.mktemp("bundles") / "tiny", fp16=variant(), int8=variant(changed=0))


def texts(captioner: Captioner) -> list[str]:
    return [image.captions[0].caption for image in captioner.caption(IMAGES)]


# Which graphs run


@pytest.mark.parametrize(
    ("variants", "device", "chosen"),
    [
        ({}, CPU, "fp32"),
        ({}, GPU, "fp32"),
        ({"int8": variant()}, CPU, "int8"),
        ({"int8": variant(equivalent=False)}, CPU, "fp32"),
        ({"int8": variant()}, GPU, "fp32"),
        ({"fp16": variant()}, CPU, "fp32"),
        ({"fp16": variant(equivalent=False)}, GPU, "fp16"),
        ({"fp16": variant(), "int8": variant()}, GPU, "fp16"),
        ({"fp16": variant(), "int8": variant()}, CPU, "int8"),
    ],
)
def test_auto(variants: dict[str, Variant], device: Device, chosen: str, tmp_path: Path) -> None:
    bundle = open_bundle(build_variants(tmp_path / "tiny", **variants))
    assert bundle.precision == "fp32"
    picked = in_precision(bundle, "auto", device)
    assert picked.precision == chosen
    assert picked.encoder_path.name == ("encoder.onnx" if chosen == "fp32" else f"encoder.{chosen}.onnx")


def test_the_graphs_of_a_precision_are_the_ones_that_run(folder: Path) -> None:
    fp32, fp16, int8 = (Captioner.load(folder, "cpu", precision=name) for name in ("fp32", "fp16", "int8"))
    assert texts(fp16) == texts(fp32)
    assert texts(int8) != texts(fp32)
    assert texts(Captioner.load(folder, "cpu")) == texts(int8)


def test_float16_memories_reach_the_decoder(folder: Path) -> None:
    """The colour shifts all logits: rounded to float16 on its way it moves log_prob, no more than such rounding can."""
    exact, rounded = (
        [image.captions[0].log_prob for image in Captioner.load(folder, "cpu", precision=name).caption(IMAGES)]
        for name in ("fp32", "fp16")
    )
    assert rounded != exact
    assert rounded == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize("wanted", ["fp16", "int8"])
def test_what_a_bundle_lacks(tiny_bundle: Path, wanted: Any) -> None:
    with pytest.raises(OptionError, match=f"--precision {wanted}: tiny has fp32 only"):
        Captioner.load(tiny_bundle, "cpu", precision=wanted)


def test_what_a_bundle_has_is_listed(tmp_path: Path) -> None:
    built = build_variants(tmp_path / "tiny", int8=variant())
    with pytest.raises(OptionError, match=r"tiny has fp32, int8\. .*auto"):
        Captioner.load(built, "cpu", precision="fp16")


def test_no_such_precision(tiny_bundle: Path) -> None:
    with pytest.raises(OptionError, match=r"--precision fp8: no such precision\. Use one of auto, fp32, fp16, int8"):
        Captioner.load(tiny_bundle, "cpu", precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="--precision fp8"):
        RunOptions(inputs=(Path(),), output=None, precision="fp8")  # type: ignore[arg-type]


# What records say


def test_the_label_carries_it_where_it_is_not_fp32(folder: Path) -> None:
    bundle = open_bundle(folder)
    plain = f"tiny@{bundle.digest[:8]}"
    labels = [Captioner.load(folder, "cpu", precision=name).fingerprint.model for name in ("fp32", "fp16", "int8")]
    assert labels == [plain, f"{plain}+fp16", f"{plain}+int8"]


def run(photos: Path, folder: Path, **settings: Any) -> Any:
    options = {"inputs": (photos,), "output": photos.parent / "out.jsonl", "model": str(folder), "device": "cpu"}
    return pipeline.run(RunOptions(**(options | settings)))


def test_another_precision_stops_the_run(folder: Path, tmp_path: Path) -> None:
    photos, output = tmp_path / "photos", tmp_path / "out.jsonl"
    write_photos(photos, 5)
    assert run(photos, folder, precision="fp32", limit=2).captioned == 2
    before = output.read_bytes()
    with pytest.raises(MismatchError, match=r"tiny@\w{8} and is now tiny@\w{8}\+int8"):
        run(photos, folder)
    assert output.read_bytes() == before
    assert run(photos, folder, on_mismatch="keep").captioned == 3
    models = [json.loads(line)["model"] for line in output.read_text().splitlines()]
    assert [model.endswith("+int8") for model in models] == [False, False, True, True, True]


def call(*arguments: object, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"} | (env or {}))


def test_the_command_line_and_the_environment(folder: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 2)
    for more, env, ending in (
        (["--precision", "fp16"], {}, "+fp16"),
        ([], {"BATCHCAP_PRECISION": "fp16"}, "+fp16"),
        ([], {}, "+int8"),
    ):
        shown = call("run", tmp_path / "photos", "-o", "-", "-q", "--device", "cpu", "--model", folder, *more, env=env)
        assert shown.exit_code == 0, shown.output
        models = [json.loads(line)["model"] for line in shown.stdout.splitlines()]
        assert [model.endswith(ending) for model in models] == [True, True]


def test_bench_says_what_it_measured(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = call(
        "bench", "--model", folder, "--device", "cpu", "--images", 3, "--repeats", 1, "--precision", "int8",
        "--json", file,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    settings = json.loads(file.read_text())["settings"]
    assert settings["precision"] == "int8"
    assert settings["model"].endswith("+int8")


def test_info_shows_what_each_costs(tmp_path: Path, tiny_bundle: Path) -> None:
    worse = variant(images=500, changed=31, cider=0.391, cider_fp32=0.4, equivalent=False, signature="dev photos")
    shown = call("info", build_variants(tmp_path / "tiny", fp16=variant(), int8=worse))
    assert shown.exit_code == 0
    for text in ("fp16", "20 of 1,000 (2.0%)", "31 of 500 (6.2%)", "0.3910 (fp32 0.4000)", "dev photos", "no"):
        assert text in shown.stdout
    assert "Precisions" not in call("info", tiny_bundle).stdout


def test_info_cuts_nothing_off_on_a_narrow_terminal(tmp_path: Path) -> None:
    costs = variant(cider=0.4013, cider_fp32=0.4038, signature="dev; beam3-lp0.7#300cadc2; int8 encoder; 1000 images")
    assert "…" not in call("info", build_variants(tmp_path / "tiny", int8=costs), env={"COLUMNS": "80"}).stdout


# Pairs that do not fit


def test_a_pair_that_does_not_fit_together(folder: Path, tmp_path: Path) -> None:
    def mix(copy: Path) -> None:
        shutil.copy(copy / "decoder.onnx", copy / "decoder.fp16.onnx")
        reseal(copy)

    copy = broken(folder, tmp_path, mix)
    assert texts(Captioner.load(copy, "cpu", precision="fp32"))
    told = r"decoder.fp16.onnx: input `memory.colour` is tensor\(float\), not tensor\(float16\)"
    with pytest.raises(BundleError, match=told):
        Captioner.load(copy, "cpu", precision="fp16")


@pytest.mark.parametrize(
    ("file", "tensor", "told"),
    [
        ("decoder.onnx", ("log_prob",), r"output `log_prob` is tensor\(float16\), not tensor\(float\)"),
        ("decoder.onnx", ("attention",), r"output `attention` is tensor\(float16\), not tensor\(float\)"),
        ("encoder.onnx", ("image",), r"input `image` is tensor\(float16\), not tensor\(float\)"),
    ],
)
def test_what_stays_float32(file: str, tensor: tuple[str], told: str, tmp_path: Path) -> None:
    built = build_bundle(tmp_path / "tiny", pixels="float32")
    for name in ("encoder.onnx", "decoder.onnx"):
        model = onnx.load(built / name)
        onnx.save(halved(model, tensor) if name == file else model, built / graph_file(name, "fp16"))
    reseal(built, variants={"fp16": variant()})
    assert texts(Captioner.load(built, "cpu"))
    with pytest.raises(BundleError, match=rf"{graph_file(file, 'fp16')}: {told}"):
        Captioner.load(built, "cpu", precision="fp16")


def gathering(encoder: Path) -> onnx.ModelProto:
    """The graph that keeps some of the images, for the states and memories of this encoder."""
    nodes, inputs, outputs = [], [helper.make_tensor_value_info("rows", TensorProto.INT64, ["N"])], []
    for tensor in onnx.load(encoder).graph.output:
        kind, name = tensor.type.tensor_type, tensor.name
        sizes = [d.dim_param or d.dim_value for d in kind.shape.dim]
        sizes[: 2 if name.startswith("state.") else 1] = ["B", "P"] if name.startswith("state.") else ["B"]
        nodes.append(helper.make_node("Gather", [name, "rows"], [f"selected.{name}"], axis=0))
        inputs.append(helper.make_tensor_value_info(name, kind.elem_type, sizes))
        outputs.append(helper.make_tensor_value_info(f"selected.{name}", kind.elem_type, ["N", *sizes[1:]]))
    graph = helper.make_graph(nodes, "select", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_select_graph_belongs_to_its_precision(folder: Path, tmp_path: Path) -> None:
    copy = broken(folder, tmp_path, lambda copy: onnx.save(gathering(copy / "encoder.onnx"), copy / "select.onnx"))
    reseal(copy)
    bundle = open_bundle(copy)
    assert bundle.select_path == copy / "select.onnx"
    assert bundle.at("fp16").select_path is None
    assert texts(Captioner.load(copy, "cpu", precision="fp16")) == texts(Captioner.load(copy, "cpu", precision="fp32"))
    onnx.save(gathering(copy / "encoder.fp16.onnx"), copy / "select.fp16.onnx")
    reseal(copy)
    assert Captioner.load(copy, "cpu", precision="fp16")
    shutil.copy(copy / "select.onnx", copy / "select.fp16.onnx")
    reseal(copy)
    with pytest.raises(BundleError, match=r"select.fp16.onnx: input `memory.colour` is tensor\(float\), not .*16"):
        Captioner.load(copy, "cpu", precision="fp16")
