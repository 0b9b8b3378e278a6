"""What the commands of the export stage find out before TensorFlow is loaded, and where they write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from colours import write_colours

from batchcap.errors import DataError, ExportError, MissingExtraError, OptionError, OutputError, TrainingError
from batchcap_export.importers.sources import hook_of
from batchcap_export.system import extras, places
from batchcap_export.system.staging import staging_folder
from batchcap_export.training import backbone_names

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
    ([*RANDOM, "--image-as", "state"], 2, "Wrong option: --image-as: attention-gru has nothing of the kind"),
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


def test_the_networks_are_those_of_keras() -> None:
    import keras

    assert set(backbone_names.backbone_names()) == {"small", *(n for n in dir(keras.applications) if n[:1].isupper())}


def test_options_of_an_architecture_are_those_that_it_takes() -> None:
    import inspect

    from batchcap_export.architectures.table import ARCHITECTURES
    from batchcap_export.options.training import OWN_OPTIONS

    assert OWN_OPTIONS.keys() == ARCHITECTURES.keys()
    own = {name for names in OWN_OPTIONS.values() for name in names}
    for name, kind in ARCHITECTURES.items():
        assert own & inspect.signature(kind).parameters.keys() == set(OWN_OPTIONS[name])


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    with pytest.raises(MissingExtraError, match=r"Scores need pycocoevalcap .*batchcap\[export,eval\]"):
        extras.need_modules("pycocoevalcap")


def test_a_python_file_and_its_function() -> None:
    assert hook_of("a/b.py") == (Path("a/b.py"), "captioner")
    assert hook_of("a/b.py:make") == (Path("a/b.py"), "make")
    assert hook_of("a/b.keras") is None


@pytest.mark.parametrize(("cost", "told"), [(0.95, ""), (1.0, ""), (1.05, ""), (1.34, "1.3 times as slow")])
def test_only_what_is_slower_is_a_warning(cost: float, told: str) -> None:
    from batchcap_export.proof.copying import copying_warning

    warning = copying_warning(cost)
    assert told in warning
    assert bool(warning) == bool(told) == warning.startswith("warning: ")


# Where they write


def test_folders_above_a_bundle_are_made_and_go_again_if_it_fails(tmp_path: Path) -> None:
    output = tmp_path / "bundles" / "of mine" / "one"
    places.check_place(output)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError), staging_folder(output, print) as shop:
        assert shop.parent == output.parent
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with staging_folder(output, print) as shop:
        (shop / "bundle").mkdir()
        (shop / "bundle").rename(output)
    assert list(output.parent.iterdir()) == [output]
    with pytest.raises(OutputError, match="one: exists already"):
        places.check_place(output)
    places.check_place(output, run_folder=True)


def test_what_others_put_there_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyError), staging_folder(tmp_path / "bundles" / "one", print):
        (tmp_path / "bundles" / "two").mkdir()
        raise KeyError
    assert (tmp_path / "bundles" / "two").is_dir()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OutputError, match=r"closed/b/c: cannot be written: no permission in .*closed"):
        places.check_place(tmp_path / "closed" / "b" / "c")


def test_a_link_to_nowhere_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputError, match="exists already"):
        places.check_place(tmp_path / "link")
    with pytest.raises(OutputError, match="is no folder"):
        places.check_place(tmp_path / "link" / "bundle")
