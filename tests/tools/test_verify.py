"""`batchcap verify`: a bundle in order passes, and for every check there is a bundle that fails it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundles import WORDS, build_bundle, reseal, rewrite
from onnx import TensorProto, helper, numpy_helper
from photos import break_photo, write_photos
from typer.testing import CliRunner, Result

from batchcap.cli.app import app
from batchcap.errors import NoImagesError
from batchcap.tools.verify import verify

NAMES = ["manifest", "files", "vocabulary", "tensors", "loops", "runs", "images", "state", "parents", "select"]
NAMES += ["batches", "order", "log_prob", "probabilities"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle(tmp_path_factory.mktemp("bundles") / "whole", select=True)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A bundle to break."""
    return Path(shutil.copytree(whole, tmp_path / "broken"))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})


def failed(folder: Path, images: Path | None = None) -> dict[str, str]:
    return {check.name: check.result for check in verify(folder, images) if not check.passed}


# In order


def test_a_bundle_in_order_holds(whole: Path) -> None:
    checks = list(verify(whole))
    assert [check.name for check in checks] == NAMES
    assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize("kind", [{"memory": False}, {"past": False, "attention": False, "pixels": "float32"}])
def test_other_kinds_hold_too(kind: dict[str, object], tmp_path: Path) -> None:
    assert failed(build_bundle(tmp_path / "b", **kind)) == {}


def test_the_command_shows_every_check_and_its_figure(whole: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 70)
    break_photo(tmp_path / "photos" / "0004.jpg")
    done = call("verify", whole, "--images", tmp_path / "photos")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [["ok", name] for name in NAMES]
    assert lines[-1] == "All holds."
    assert "0 of 63 images, 1 that cannot be decoded left out captioned otherwise" in done.stdout
    assert done.stderr == ""


def test_in_a_terminal_a_long_result_stays_in_its_column(whole: Path) -> None:
    narrow = {"COLUMNS": "80", "FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm"}
    lines = CliRunner().invoke(app, ["verify", str(whole)], env=narrow).stdout.splitlines()
    begun = [line for line in lines if line.startswith(("ok", "\x1b"))]
    gone_on = [line for line in lines[:-1] if line not in begun]
    assert len(begun) == len(NAMES)
    assert gone_on
    assert all(line.startswith(" " * 26) for line in gone_on)


def test_the_embedded_bundle_holds() -> None:
    done = call("verify", "flickr8k-small")
    assert done.exit_code == 0, done.output


# Broken, check by check


def test_an_altered_byte(folder: Path) -> None:
    for name in ("encoder.onnx", "MODEL_CARD.md"):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
    done = call("verify", folder)
    assert done.exit_code == 1
    assert "encoder.onnx: was altered since the bundle was made (its SHA-256 differs)" in done.stdout
    assert "MODEL_CARD.md: was altered" in done.stdout
    assert "runs" not in done.stdout
    assert done.stdout.splitlines()[-1] == "2 checks failed: files."


@pytest.mark.parametrize(
    ("spoil", "name", "told"),
    [
        (lambda b: (b / "bundle.json").write_text("{}"), "manifest", "missing required field"),
        (shutil.rmtree, "manifest", "not a bundle (no such folder)"),
        (lambda b: (b / "decoder.onnx").unlink(), "files", "decoder.onnx: is missing"),
    ],
)
def test_what_is_no_bundle(folder: Path, spoil: Callable[[Path], object], name: str, told: str) -> None:
    spoil(folder)
    done = call("verify", folder)
    assert done.exit_code == 1
    assert f"FAILED {name} " in done.stdout
    assert told in done.stdout
    assert done.stdout.endswith(f"1 check failed: {name}.\n")


def test_a_vocabulary_of_another_size(folder: Path) -> None:
    (folder / "vocabulary.txt").write_text("\n".join(WORDS[:-1]), encoding="utf-8")
    reseal(folder)
    assert "has 11 words, but bundle.json says 12" in failed(folder)["vocabulary"]


def maker(model: onnx.ModelProto, tensor: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if tensor in node.output)


def insert(model: onnx.ModelProto, tensor: str, *nodes: onnx.NodeProto, **constants: np.ndarray) -> None:
    """Put ``nodes`` between the maker of ``tensor``, which they read as ``old``, and whoever reads it."""
    node = maker(model, tensor)
    node.output[list(node.output).index(tensor)] = "old"
    at = list(model.graph.node).index(node) + 1
    for offset, more in enumerate(nodes):
        model.graph.node.insert(at + offset, more)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())


def unnormalised(model: onnx.ModelProto) -> None:
    """log_prob are the logits as they come."""
    node = maker(model, "log_probs")
    node.op_type = "Identity"
    del node.attribute[:]


def neighbourly(model: onnx.ModelProto) -> None:
    """The mean over the images of the batch is part of every image's logits."""
    mean = helper.make_node("ReduceMean", ["old"], ["mean"], axes=[0], keepdims=1)
    insert(model, "all", mean, helper.make_node("Add", ["old", "mean"], ["all"]))


def accumulating(model: onnx.ModelProto) -> None:
    """An image's logits depend on the images before it."""
    sums = helper.make_node("CumSum", ["old", "zeroth"], ["all"])
    insert(model, "all", sums, zeroth=np.array(0, np.int64))


def sociable(model: onnx.ModelProto) -> None:
    """The mean over the beams is part of every beam's logits."""
    mean = helper.make_node("ReduceMean", ["old"], ["mean"], axes=[1], keepdims=1)
    insert(model, "all", mean, helper.make_node("Add", ["old", "mean"], ["all"]))


def forgetful(model: onnx.ModelProto) -> None:
    """The last word alone decides: the state is not read."""
    nothing = helper.make_node("Mul", ["old", "nothing"], ["own.row"])
    insert(model, "own.row", nothing, nothing=np.array(0, np.int64))


def orphaned(model: onnx.ModelProto) -> None:
    """Every beam continues the first one."""
    nothing = helper.make_node("Mul", ["old", "nothing"], ["index"])
    insert(model, "index", nothing, nothing=np.array(0, np.int64))


def overflowing(model: onnx.ModelProto) -> None:
    infinite = helper.make_node("Div", ["old", "nothing"], ["all"])
    insert(model, "all", infinite, nothing=np.array(0, np.float32))


def monotonous(model: onnx.ModelProto) -> None:
    """The same token, whatever the place."""
    nothing = helper.make_node("Mul", ["old", "nothing"], ["next_token"])
    insert(model, "next_token", nothing, nothing=np.array(0, np.int64))


def upside_down(model: onnx.ModelProto) -> None:
    maker(model, "log_prob").attribute.extend([helper.make_attribute("largest", 0)])
    del maker(model, "log_prob").attribute[1]


def branching(model: onnx.ModelProto) -> None:
    """An If that does nothing."""
    out = helper.make_tensor_value_info("same", TensorProto.FLOAT, None)
    inner = helper.make_graph([helper.make_node("Identity", ["old"], ["same"])], "inner", [], [out])
    branch = helper.make_node("If", ["yes"], ["all"], then_branch=inner, else_branch=inner)
    insert(model, "all", branch, yes=np.array(True))


def blind(model: onnx.ModelProto) -> None:
    """Every image is black."""
    insert(model, "mean", helper.make_node("Mul", ["old", "black"], ["mean"]), black=np.array(0, np.float32))


def unnamed(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = maker(model, "log_prob").output[0] = "words_log_prob"


def staying_put(model: onnx.ModelProto) -> None:
    """Whoever leaves, the first images stay."""
    sorted_ = helper.make_node("Mul", ["rows", "nothing"], ["own_rows"])
    for node in model.graph.node:
        node.input[1] = "own_rows"
    model.graph.node.insert(0, sorted_)
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "nothing"))


@pytest.mark.parametrize(
    ("file", "change", "names", "told"),
    [
        ("decoder", unnormalised, {"probabilities"}, "each next-token distribution sums to 1 within"),
        ("decoder", neighbourly, {"batches", "log_prob"}, "captioned otherwise in batches of 16 and 5"),
        ("decoder", accumulating, {"order", "batches", "log_prob"}, "in reverse order"),
        ("decoder", sociable, {"log_prob", "parents"}, "each word by itself"),
        ("decoder", forgetful, {"state"}, "other words before the last one change the next by up to 0"),
        ("decoder", orphaned, {"parents"}, "beams that change places"),
        ("decoder", overflowing, {"runs"}, "gives NaN instead of log-probabilities"),
        ("decoder", monotonous, {"runs"}, "`next_token` does not name every word once"),
        ("decoder", upside_down, {"runs"}, "`log_prob` does not come best first"),
        ("decoder", branching, {"loops"}, "decoder.onnx holds If"),
        ("decoder", unnamed, {"tensors"}, "has no output `log_prob`"),
        ("encoder", blind, {"images"}, "first words of other images differ by up to 0"),
        ("select", staying_put, {"select"}, "where images leave the others go on, within"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_check_fails_where_it_should(
    folder: Path, file: str, change: Callable[[onnx.ModelProto], None], names: set[str], told: str
) -> None:
    rewrite(folder, f"{file}.onnx", change)
    problems = failed(folder)
    assert names <= problems.keys()
    assert any(told in result for result in problems.values())
    # What has nothing to do with it still holds.
    assert not problems.keys() & {"manifest", "files", "vocabulary"}


def test_the_graphs_of_another_precision_are_checked_too(folder: Path) -> None:
    from batchcap.bundle.manifest import Variant

    for name in ("encoder", "decoder", "select"):
        shutil.copy(folder / f"{name}.onnx", folder / f"{name}.int8.onnx")
    variant = Variant(images=64, changed=0, equivalent=True, signature="a copy")
    reseal(folder, variants={"int8": variant})
    checks = list(verify(folder))
    assert [check.name for check in checks] == [*NAMES, *(f"int8 {name}" for name in NAMES[3:])]
    rewrite(folder, "decoder.int8.onnx", unnormalised)
    assert "int8 probabilities" in failed(folder)
    assert "probabilities" not in failed(folder)


# Told well


def test_a_missing_folder_of_images(whole: Path, tmp_path: Path) -> None:
    done = call("verify", whole, "--images", tmp_path / "nowhere")
    assert done.exit_code == 1
    assert "nowhere" in done.stderr
    assert done.stdout == ""


def test_no_image_that_can_be_decoded(whole: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1)
    break_photo(tmp_path / "photos" / "0000.jpg")
    with pytest.raises(NoImagesError, match="none of the images can be decoded"):
        list(verify(whole, tmp_path / "photos"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoImagesError):
        list(verify(whole, tmp_path / "empty"))


def test_usage(whole: Path) -> None:
    assert call("verify").exit_code == 2
    done = call("verify", whole, "--scale", "0..1")
    assert done.exit_code == 2
    assert "--scale says something of the origin" in done.stderr
    assert "Add --origin SOURCE" in done.stderr


def test_an_origin_needs_tensorflow(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    done = call("verify", whole, "--origin", "runs/mine")
    assert done.exit_code == 1
    assert "batchcap[export,eval]" in done.stderr
    assert done.stdout == ""
    assert call("verify", whole).exit_code == 0


def test_ctrl_c(whole: Path, tmp_path: Path, own_handlers: None) -> None:
    write_photos(tmp_path / "photos", 64, (2000, 1500))
    command = [sys.executable, "-m", "batchcap", "verify", str(whole), "--images", str(tmp_path / "photos")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "manifest" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "All holds" not in out
    assert "Traceback" not in err
