"""What the original tool prints, and the proof that a bundle captions as it does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles import IM2TXT_TABLE
from PIL import Image

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import tensorflow as tf
from proofs import call
from tiny_im2txt import JPEGS, loaded, tiny

from batchcap.bundle.bundle import open_bundle
from batchcap.errors import ExportError
from batchcap_export.exporting.export import export_source
from batchcap_export.exporting.origin import compare
from batchcap_export.importers.im2txt import opening
from batchcap_export.importers.im2txt.tool import Printed, Tool
from batchcap_export.options.bundles import BundleOptions
from batchcap_export.options.importing import ImportOptions


def told(following: dict[int, list[tuple[int, float]]], photo: Path) -> tuple[Tool, list[Printed]]:
    """The tool over a table: 0 starts, 1 ends, ten words have a name, and what leads nowhere ends."""
    chances = np.zeros((12, 12), np.float32)
    for word in range(12):
        for after, chance in following.get(word, [(1, 1.0)]):
            chances[word, after] = chance
    with tf.Graph().as_default() as graph:
        tf.compat.v1.placeholder(tf.string, [], "image_feed")
        word = tf.compat.v1.placeholder(tf.int64, [None], "input_feed")
        state = tf.compat.v1.placeholder(tf.float32, [None, 2], "lstm/state_feed")
        tf.zeros([1, 2], name="lstm/initial_state")
        tf.identity(state, "lstm/state")
        tf.gather(tf.constant(chances), word, name="softmax")
    words = ["<S>", "</S>", *(f"w{i}" for i in range(2, 10))]
    tool = Tool(graph.as_graph_def(), words, start="<S>", end="</S>", unknown="<UNK>")
    return tool, tool.captions([photo])[0]


def test_the_reference_finds_the_published_captions(photos: Path) -> None:
    tool, found = told(IM2TXT_TABLE, photos / "00.jpg")
    assert [(printed.text, pytest.approx(math.exp(printed.log_prob))) for printed in found] == [
        ("w2 w6", 0.18),
        ("w4 <UNK>", 0.16),
        ("w3 w8", 0.15),
    ]
    assert all(printed.complete for printed in found)
    # Output 11 alone: 10 is the `<UNK>` that the tool appends.
    assert tool.nameless == 1
    assert tool.nameless_share == 0


def test_the_reference_prints_what_never_ended_without_the_last_word(photos: Path) -> None:
    """As the tool's ``sentence[1:-1]``, with the p of all the words; and `<S>` may be said again."""
    _, found = told({0: [(2, 1.0)], 2: [(0, 0.9), (3, 0.1)], 3: [(4, 1.0)], 4: [(4, 1.0)]}, photos / "00.jpg")
    assert [printed.complete for printed in found] == [False] * 3
    # 19 words after the first `<S>`, of which the last is not printed.
    assert [printed.text for printed in found] == [
        " ".join(["w2 <S>"] * 9),
        " ".join(["w2", "w3", *["w4"] * 16]),
        " ".join(["w2", "<S>", "w2", "w3", *["w4"] * 14]),
    ]
    assert [math.exp(printed.log_prob) for printed in found] == pytest.approx([0.9**9, 0.1, 0.09])


def test_a_bundle_that_says_other_things_is_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference runs another graph than the one that was exported; parity does not see that, the tool does."""
    definition = tiny(outputs=40)
    for node in definition.node:
        node.device = "/job:worker/device:GPU:7"
    (tmp_path / "tiny.pb").write_bytes(definition.SerializeToString())
    (tmp_path / "words.txt").write_text("\n".join(["<S>", "</S>", *(f"w{i}" for i in range(38))]))
    load = opening.load

    def spoilt(*given: Any) -> Any:
        model = load(*given)
        tool = model.prove.args[0]
        tool._words[2:] = reversed(tool._words[2:])
        return model

    monkeypatch.setattr(opening, "load", spoilt)
    how, options = ImportOptions(vocabulary=tmp_path / "words.txt"), BundleOptions(name="b", min_distinct=0.0)
    with pytest.raises(ExportError, match=rf"Only \d+ of {JPEGS} captions as the original tool prints them"):
        export_source(str(tmp_path / "tiny.pb"), how, tmp_path / "b", options, photos, lambda _: None)
    monkeypatch.undo()
    said: list[str] = []
    export_source(str(tmp_path / "tiny.pb"), how, tmp_path / "b", options, photos, said.append)
    assert any(line.startswith(f"{JPEGS} of {JPEGS} captions as the original") for line in said)
    metrics = json.loads((tmp_path / "b" / "bundle.json").read_text())["provenance"]["metrics"]
    assert {"name": "original_tool", "value": 1.0}.items() <= metrics[1].items()
    checks = list(compare(tmp_path / "b", str(tmp_path / "tiny.pb"), how, photos, said.append))
    assert [(check.name, check.passed) for check in checks] == [("origin", True), ("parity", True), ("proof", True)]
    assert checks[-1].result.startswith(f"{JPEGS} of {JPEGS} captions as the original tool prints them")


def speaks(bias: dict[int, float], outputs: int = 40) -> Any:
    """A tiny graph that likes some words better."""
    offsets = np.zeros(outputs, np.float32)
    offsets[[*bias]] = [*bias.values()]
    return tiny(outputs=outputs, gain=0.2, out=lambda logits, name: tf.nn.softmax(logits + offsets, name=name))


def saved(folder: Path, definition: Any, words: int) -> tuple[str, ImportOptions]:
    (folder / "tiny.pb").write_bytes(definition.SerializeToString())
    (folder / "words.txt").write_text("\n".join(["<S>", "</S>", *(f"w{i}" for i in range(2, words))]))
    return str(folder / "tiny.pb"), ImportOptions(vocabulary=folder / "words.txt")


def test_captions_that_never_end_and_a_start_that_comes_again_are_proven(photos: Path, tmp_path: Path) -> None:
    source, how = saved(tmp_path, speaks({0: 3.0, 1: -60.0}), words=40)
    options, said = BundleOptions(name="b", min_distinct=0.0), []
    export_source(source, how, tmp_path / "b", options, photos, said.append)
    line = next(line for line in said if "as the original tool prints them" in line)
    assert line.startswith(f"{JPEGS} of {JPEGS} captions")
    assert f"{JPEGS} cut after 19 words and printed without the last; all three captions: {JPEGS};" in line
    # The words are in the bundle; who names others is told.
    verified = call("verify", tmp_path / "b", "--origin", source, "--images", photos)
    assert verified.exit_code == 0, verified.stdout + verified.stderr
    assert "no --vocabulary was named, so the words are the bundle's own" in " ".join(verified.stdout.split())
    done = call("run", photos, "-o", tmp_path / "c.jsonl", "--model", tmp_path / "b", "--allow-unknown", "-q")
    assert done.exit_code == 0, done.stderr
    captions = [json.loads(row)["caption"].split() for row in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert {len(words) for words in captions} == {18}
    assert any("<S>" in words for words in captions)


def test_a_vocabulary_that_is_too_short_is_named_as_the_cause(photos: Path, tmp_path: Path) -> None:
    source, how = saved(tmp_path, speaks({1: -60.0}), words=20)
    options = BundleOptions(name="b", min_distinct=0.0)
    with pytest.raises(ExportError, match=r"captions as the original tool prints them") as caught:
        export_source(source, how, tmp_path / "b", options, photos, lambda _: None)
    assert "19 of the model's outputs have no word, but" in caught.value.fix
    assert "The vocabulary is shorter than the one that the model was trained with" in caught.value.fix


def test_an_origin_that_cannot_be_compared_is_no_failed_export(photos: Path, tmp_path: Path) -> None:
    done = call("verify", "flickr8k-small", "--origin", tmp_path / "none.pb", "--images", photos)
    assert done.exit_code == 1
    assert done.stderr.startswith("The origin cannot be compared: ")
    assert "Export failed" not in done.stderr
    (tmp_path / "x.pb").write_bytes(b"no graph at all")
    done = call("export", tmp_path / "x.pb", "--vocabulary", tmp_path / "w", "-o", tmp_path / "b", "--images", photos)
    assert "Export failed: " in done.stderr


def test_too_few_jpegs_prove_nothing(photos: Path, tmp_path: Path) -> None:
    for index, file in enumerate(sorted(photos.iterdir())):
        image = Image.open(file).convert("RGB")
        image.save(tmp_path / f"{index:02}.{'png' if index < 10 else 'jpg'}")
    model = loaded(tmp_path, "<S>\n</S>\na\n")
    files = sorted(tmp_path.glob("[0-9]*"))
    with pytest.raises(ExportError, match=r"needs 64 JPEG files that stand upright, not 58 of 68 images"):
        model.prove(open_bundle("flickr8k-small"), files, lambda _: None)
