"""The commands of the export stage, as a person gives them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from colours import write_colours
from typer.testing import CliRunner, Result

from batchcap.cli.app import app


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", ["distill", "train", "export"])
def test_help_needs_no_tensorflow(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    result = call(command, "--help")
    assert result.exit_code == 0
    assert "--output" in result.output


def test_without_tensorflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    result = call("export", tmp_path, "-o", tmp_path / "bundle")
    assert result.exit_code == 1
    told = " ".join(result.stderr.split())
    assert "This command needs TensorFlow and tf2onnx" in told
    assert "tensorflow" in told
    assert "pip install 'batchcap[export,eval]'" in told
    assert "Traceback" not in result.stderr


def test_train_export_run(tmp_path: Path) -> None:
    """The whole road of a model, from captioned images to captions."""
    pytest.importorskip("tensorflow", reason="the export extra is not installed")
    pytest.importorskip("pycocoevalcap", reason="the eval extra is not installed")
    write_colours(tmp_path, count=112, dev=64)
    settings = ["--min-count", 1, "--units", 32, "--epochs", 2, "--batch-size", 16, "--learning-rate", 0.01, "--tied"]
    settings += ["--weights", "random"]
    data = [tmp_path / "images", "--captions", tmp_path / "captions.txt"]
    splits = ["--train-split", tmp_path / "train.txt", "--dev-split", tmp_path / "dev.txt"]
    trained = call("train", *data, *splits, "-o", tmp_path / "run", *settings)
    assert trained.exit_code == 0, trained.stderr
    assert "CIDEr" in trained.stdout
    exported = call(
        "export", tmp_path / "run", "-o", tmp_path / "two-colours", "--store", "float16", "--min-distinct", 0,
        "--also-score", tmp_path / "images", "--terms", "Free for all.", "--data", "Two colours.",
    )  # fmt: skip
    assert exported.exit_code == 0, exported.stderr
    assert "64 of 64 captions identical" in exported.stdout
    card = (tmp_path / "two-colours" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Free for all." in card
    assert "images-as-trained/cider" in card
    assert str(tmp_path) not in card + (tmp_path / "two-colours" / "bundle.json").read_text(encoding="utf-8")
    shown = call("info", tmp_path / "two-colours")
    assert shown.exit_code == 0
    assert "changed_by_rounding" in shown.stdout
    ran = call("run", tmp_path / "images", "-o", tmp_path / "c.jsonl", "--model", tmp_path / "two-colours", "-q")
    assert ran.exit_code == 0, ran.stderr
    records = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert len(records) == 112
    assert {record["model"].split("@")[0] for record in records} == {"two-colours"}
    verified = call("verify", tmp_path / "two-colours", "--origin", tmp_path / "run")
    assert verified.exit_code == 0, verified.output
    assert "64 of 64 captions identical" in verified.stdout
    words = ["--vocabulary", tmp_path / "run" / "vocabulary.txt"]
    for refused in (
        call("export", tmp_path / "run", "-o", tmp_path / "other", *words),
        call("verify", tmp_path / "two-colours", "--origin", tmp_path / "run", *words),
    ):
        assert refused.exit_code == 1
        assert "--vocabulary does not go with it" in refused.stderr
    again = call("export", tmp_path / "run", "-o", tmp_path / "two-colours")
    assert again.exit_code == 1
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["export", "nowhere", "-o", "bundle"], "nowhere: no such file or folder"),
        (
            [
                "train",
                "x",
                "--captions",
                "c",
                "--train-split",
                "t",
                "--dev-split",
                "d",
                "-o",
                "run",
                "--weights",
                "random",
            ],
            "no such file",
        ),
        (["distill", ".", "--teacher", "t.keras", "--layer", "x", "--held-out", ".", "-o", "run"], "no such teacher"),
    ],
)
def test_what_is_missing_is_named(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorflow", reason="the export extra is not installed")
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 1
    assert told in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("--store", "int4"), ("--also-score", "photos")])
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, str], tmp_path: Path) -> None:
    if arguments[0] == "--also-score":
        pytest.importorskip("tensorflow", reason="the export extra is not installed")
    result = call("export", tmp_path / "model.keras", "-o", tmp_path / "bundle", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr
