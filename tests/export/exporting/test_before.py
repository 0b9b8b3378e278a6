"""What the commands of the export stage find out before TensorFlow is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from colours import write_colours

from batchcap.errors import DataError, ExportError, OptionError, OutputError, TrainingError

pytest.importorskip("tensorflow", reason="the export extra is not installed")
pytest.importorskip("pycocoevalcap", reason="the eval extra is not installed")

# Gives every command in one process, and says what came of it and whether something slow was imported for it.
GIVEN = """
import json, sys
from typer.testing import CliRunner
from batchcap.cli.app import app

for arguments in json.load(sys.stdin):
    result = CliRunner().invoke(app, arguments)
    slow = sorted({"tensorflow", "keras", "tf2onnx", "onnx"} & sys.modules.keys())
    print(json.dumps([result.exit_code, " ".join(result.stderr.split()), slow]))
"""

DATA = ["images", "--captions", "captions.txt", "--train-split", "train.txt"]
TRAIN = ["train", *DATA, "--dev-split", "dev.txt", "-o", "runs/one", "--min-count", "1"]
RANDOM = [*TRAIN, "--weights", "random"]
DISTILL = ["distill", "images", "--teacher", "t.keras", "--layer", "x", "-o", "runs/two", "--held-out"]
EXPORT = ["export", "-o", "bundles/mine"]
KERAS = [*EXPORT, "model.keras", "--images", "images"]

CASES: list[tuple[list[str], int, str]] = [
    (TRAIN, 2, "Wrong option: --weights: none are named for the backbone small, and it does not learn"),
    ([*TRAIN, "--weights", "none"], 1, "Training failed: --weights none: no such file."),
    ([*TRAIN, "--weights", "imagenet"], 2, "Wrong option: --weights imagenet: there are none for small"),
    ([*RANDOM, "--size", "224"], 2, "Wrong option: --backbone small is made for 160x160"),
    (
        [*RANDOM, "--backbone", "Inception"],
        2,
        "Wrong option: --backbone Inception: no such network. Known: small, Conv",
    ),
    ([*RANDOM, "--image-as", "state"], 2, "Wrong option: --image-as: attention-gru does not have this option"),
    ([*RANDOM, "--captions", "nowhere"], 1, "Images or captions cannot be used: nowhere: no such file of captions."),
    ([*RANDOM, "--captions", "dev.txt"], 1, "dev.txt, line 1: not of a form that is known"),
    (
        [*RANDOM, "--dev-split", "train.txt"],
        1,
        "--train-split train.txt and --dev-split train.txt name the same images",
    ),
    (
        [*RANDOM, "--dev-split", "mixed.txt"],
        1,
        "--dev-split mixed.txt: 1 of its 2 images are in --train-split train.txt",
    ),
    ([*RANDOM, "--dev-split", "empty.txt"], 1, "empty.txt: names no image"),
    ([*RANDOM, "--min-count", "9999"], 1, "Images or captions cannot be used: No word occurs 9999 times."),
    ([*RANDOM, "-o", "dev.txt"], 1, "Output cannot be used: dev.txt: is a file, not a run folder."),
    ([*RANDOM, "-o", "dev.txt/run"], 1, "dev.txt/run: cannot be made"),
    ([*RANDOM, "-o", "half"], 1, "Training failed: half: this run folder has another recipe"),
    ([*RANDOM, "-o", "torn"], 1, "Training failed: torn/recipe.json: is damaged"),
    ([*DISTILL, "images"], 1, "Training failed: t.keras: no such teacher network."),
    (
        [*DISTILL, "images", "--teacher", "model.keras"],
        1,
        "Images or captions cannot be used: images: every image here is",
    ),
    (
        [*DISTILL, "nowhere", "--teacher", "model.keras"],
        1,
        "Images or captions cannot be used: nowhere: no such folder",
    ),
    (
        [*DISTILL, "images", "--teacher", "model.keras", "--held-out-names", "more.txt"],
        1,
        "images: has no image for 1 of the 2 names in more.txt, such as zebra.png",
    ),
    (
        [*DISTILL, "images", "--teacher", "model.keras", "--held-out-names", "dev.txt", "--views", "1"],
        2,
        "Wrong option: --batch-size 128: there are only 58 views of all images.",
    ),
    ([*EXPORT, "nowhere"], 1, "Export failed: nowhere: no such file or folder."),
    ([*EXPORT, "nowhere.py", "--images", "images"], 1, "Export failed: nowhere.py: no such Python file."),
    ([*EXPORT, "nowhere.pb", "--images", "images", "--vocabulary", "dev.txt"], 1, "nowhere.pb: no such file."),
    ([*EXPORT, "half"], 1, "Training failed: half: this training has not finished."),
    ([*EXPORT, "half", "--size", "3"], 1, "half: --size does not go with it."),
    ([*EXPORT, "dev.txt"], 1, "Export failed: dev.txt: is nothing that can be exported."),
    ([*EXPORT, "model.keras", "-o", "images"], 1, "Output cannot be used: images: exists already."),
    ([*EXPORT, "model.keras", "-o", "dev.txt/b"], 1, "Output cannot be used: dev.txt/b: cannot be made: "),
    ([*KERAS, "--also-score", "images"], 2, "Wrong option: --also-score goes with a run folder"),
    (KERAS, 1, "Export failed: model.keras: does not hold its words. Name the file that does: --vocabulary FILE."),
    ([*KERAS, "--vocabulary", "no.txt"], 1, "Export failed: --vocabulary no.txt: no such file."),
    ([*KERAS, "--vocabulary", "twice.txt"], 1, "twice.txt: The word 'a' stands twice"),
    (
        [*KERAS, "--vocabulary", "dev.txt", "--decoder", "no.keras"],
        1,
        "Export failed: --decoder no.keras: no such file.",
    ),
    ([*KERAS, "--vocabulary", "dev.txt", "--store", "int8"], 2, "Wrong option: --store int8: only a run"),
    ([*KERAS, "--vocabulary", "dev.txt", "--beam-size", "9999"], 2, "Wrong option: --beam-size 9999"),
    ([*KERAS, "--vocabulary", "dev.txt", "--precision", "int8"], 1, "--precision int8 needs images"),
    ([*KERAS, "--vocabulary", "dev.txt", "--references", "no.txt"], 1, "no.txt: no such file of captions"),
    ([*EXPORT, "model.keras"], 1, "model.keras: there are no images to compare with."),
    ([*EXPORT, "model.keras", "--images", "few"], 1, "Images or captions cannot be used: few: holds 1 images; 64 are"),
    (["verify", "flickr8k-small", "--origin", "nowhere"], 1, "nowhere: no such file or folder"),
    (["verify", "flickr8k-small", "--origin", "half"], 1, "half: this training has not finished"),
    (["verify", "flickr8k-small", "--origin", "x.py", "--images", "images"], 1, "x.py: no such Python file"),
]


def test_all_that_can_be_told_at_once_is_told_without_tensorflow(tmp_path: Path) -> None:
    write_colours(tmp_path, count=70, dev=12)
    texts = {
        "mixed.txt": "69.png\n00.png\n",
        "empty.txt": "\n",
        "more.txt": "69.png\nzebra.png\n",
        "twice.txt": "a\na\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "model.keras").write_bytes(b"opened later")
    for folder, recipe in (("half", '{"options": {"units": 3}}'), ("torn", "")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "recipe.json").write_text(recipe)
    (tmp_path / "few").mkdir()
    (tmp_path / "images" / "00.png").rename(tmp_path / "few" / "00.png")
    (tmp_path / "images" / "00.png").symlink_to(tmp_path / "few" / "00.png")
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", GIVEN],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "300"},
        input=json.dumps([arguments for arguments, _, _ in CASES]),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    for (arguments, code, told), (exit_code, stderr, slow) in zip(CASES, results, strict=True):
        assert told in stderr, (arguments, stderr)
        assert exit_code == code, (arguments, stderr)
        assert slow == [], arguments
    assert sorted(tmp_path.rglob("*")) == before


def test_each_cause_has_its_title() -> None:
    titles = {kind.title for kind in (ExportError, DataError, TrainingError, OptionError, OutputError)}
    assert len(titles) == 5
    assert TrainingError.title == "Training failed"
