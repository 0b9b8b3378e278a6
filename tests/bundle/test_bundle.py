"""Opening a bundle: what it says, and every way in which it can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from bundles import WORDS, build_bundle, edit_manifest, random_tables, reseal, rewrite
from onnx import TensorProto, helper, numpy_helper

from batchcap.bundle import bundle, onnx_scan
from batchcap.bundle.bundle import embedded_names, open_bundle, write_manifest
from batchcap.bundle.detokenizer import Text
from batchcap.bundle.manifest import Generation
from batchcap.errors import BundleError


def test_a_bundle_in_order(tiny_bundle: Path) -> None:
    opened = open_bundle(tiny_bundle)
    assert opened.folder == tiny_bundle
    assert opened.vocabulary.words == WORDS
    assert opened.manifest.preprocess.pixels == "uint8"
    assert opened.manifest.attention_grid == (2, 3)
    assert set(opened.manifest.files) == {"encoder.onnx", "decoder.onnx", "vocabulary.txt", "MODEL_CARD.md"}
    assert opened.encoder_path.is_file()
    assert opened.decoder_path.is_file()
    assert opened.label == f"tiny@{opened.digest[:8]}"
    assert open_bundle(str(tiny_bundle)) == opened


def test_the_manifest_is_stable_and_readable(folder: Path) -> None:
    before = (folder / "bundle.json").read_bytes()
    reseal(folder)
    assert (folder / "bundle.json").read_bytes() == before
    content = json.loads(before)
    assert list(content) == sorted(content)
    assert list(content["files"]) == sorted(content["files"])
    assert before.startswith(b'{\n  "attention_grid"')


@pytest.mark.parametrize(("name", "why"), [("x" * 300, "File name too long"), ("file/x", "no such folder")])
def test_a_name_that_cannot_be_looked_at(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BundleError, match=why):
        open_bundle(tmp_path / name)


def test_a_manifest_from_before_a_field_came_is_in_order(folder: Path) -> None:
    edit_manifest(folder, lambda m: (m.pop("text"), m["generation"].pop("search")))
    opened = open_bundle(folder).manifest
    assert opened.text == Text()
    assert opened.generation.search == "beam"


def test_what_a_manifest_may_say_of_text_and_search(folder: Path) -> None:
    text = Text(
        separator="",
        no_space_before=(",", "'s"),
        no_space_after=("(",),
        contractions={"do n't": "don't"},
        subwords=None,
    )
    own = Generation(search="im2txt", beam_size=4, length_penalty=3.0)
    reseal(folder, text=text, generation=own)
    opened = open_bundle(folder)
    assert opened.manifest.text == text
    assert opened.manifest.generation == own
    assert opened.with_text(Text()).manifest == msgspec.structs.replace(opened.manifest, text=Text())
    assert opened.with_text(Text()).label == opened.label


def test_the_digest_follows_every_file(folder: Path) -> None:
    before = open_bundle(folder).digest
    (folder / "MODEL_CARD.md").write_text("Another card.\n", encoding="utf-8")
    reseal(folder)
    assert open_bundle(folder).digest != before


def test_embedded_names_are_bundles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundle, "_EMBEDDED", tmp_path)
    build_bundle(tmp_path / "known", name="known")
    (tmp_path / "no-bundle").mkdir()
    assert embedded_names() == ["known"]
    assert open_bundle("known").folder == tmp_path / "known"
    with pytest.raises(BundleError, match="nothing: not a bundle") as error:
        open_bundle("nothing")
    assert "known" in error.value.fix


def test_an_embedded_name_goes_before_a_folder_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundle, "_EMBEDDED", tmp_path / "embedded")
    build_bundle(tmp_path / "embedded" / "known", name="embedded")
    build_bundle(tmp_path / "known", name="local")
    monkeypatch.chdir(tmp_path)
    assert open_bundle("known").manifest.name == "embedded"
    assert open_bundle("./known").manifest.name == "local"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.mkdir(), "has no bundle.json"),
        (lambda path: path.write_bytes(b""), "is a file"),
    ],
)
def test_not_a_bundle(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    make(tmp_path / "it")
    with pytest.raises(BundleError, match=rf"it: not a bundle \({why}\)"):
        open_bundle(tmp_path / "it")


WRONG_FIELDS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda m: m.update(format_version=2), "format_version 2 is not known here, only 1"),
    (lambda m: m.update(format_version=0), "format_version 0 is not known here"),
    (lambda m: m.update(format_version="1"), r"at `\$.format_version`"),
    (lambda m: m.pop("format_version"), "missing required field `format_version`"),
    (lambda m: m.update(colour="red"), "unknown field `colour`"),
    (lambda m: m.pop("tokens"), "missing required field `tokens`"),
    (lambda m: m.update(name="a@b"), r"at `\$.name`"),
    (lambda m: m.update(vocabulary_size=0), r"at `\$.vocabulary_size`"),
    (lambda m: m["preprocess"].update(method="nearest"), r"at `\$.preprocess.method`"),
    (lambda m: m["preprocess"].update(blur=3), r"unknown field `blur` - at `\$.preprocess`"),
    (lambda m: m["preprocess"].update(resize_width=9), r"fit `stretch` cannot give 8x8 - at `\$.preprocess`"),
    (lambda m: m["preprocess"].update(resize_width=9, fit="pad"), "fit `pad` cannot give"),
    (lambda m: m["preprocess"].update(resize_width=7, fit="center-crop"), "fit `center-crop` cannot give"),
    (lambda m: m["preprocess"].update(resize_width=0, width=0), "cannot give 8x0"),
    (lambda m: m["tokens"].update(end=12), r"token 12 is not among 12 words - at `\$.tokens.end`"),
    (lambda m: m["tokens"].update(padding=-1), r"at `\$.tokens.padding`"),
    (lambda m: m["generation"].update(beam_size=0), r"at `\$.generation.beam_size`"),
    (lambda m: m["generation"].update(length_penalty=3), r"at `\$.generation.length_penalty`"),
    (lambda m: m["generation"].update(length_penalty=10.5, search="im2txt"), "10.5 is above 10, the most of im2txt"),
    (lambda m: m["generation"].update(search="magic"), r"at `\$.generation.search`"),
    (
        lambda m: m["generation"].update(search="greedy"),
        r"greedy search has no beam of 3, only of 1 - at `\$.generation.beam_size`",
    ),
    (lambda m: m.update(text=" "), r"at `\$.text`"),
    (lambda m: m["text"].update(joiner=" "), r"unknown field `joiner` - at `\$.text`"),
    (lambda m: m["text"].update(separator="a\n"), r"at `\$.text.separator`"),
    (lambda m: m["text"].update(separator="\x1b[2J"), r"at `\$.text.separator`"),
    (lambda m: m["text"].update(contractions={"gon na": "\x9b2J"}), r"at `\$.text.contractions"),
    (lambda m: m["text"].update(no_space_before=[",", ""]), r"at `\$.text.no_space_before\[1\]`"),
    (lambda m: m["text"].update(no_space_after="("), r"at `\$.text.no_space_after`"),
    (lambda m: m["text"].update(contractions={"do  n't": "don't"}), r"at `key` in `\$.text.contractions`"),
    (lambda m: m["text"].update(contractions={"do n't": ""}), r"at `\$.text.contractions\[...\]`"),
    (lambda m: m["text"].update(subwords="bpe"), r"at `\$.text.subwords`"),
    (
        lambda m: m["text"].update(subwords="sentencepiece"),
        r"no word of the vocabulary is marked as sentencepiece marks it - at `\$.text.subwords`",
    ),
    (lambda m: m.update(attention_grid=[2]), r"at `\$.attention_grid`"),
    (lambda m: m["files"]["encoder.onnx"].update(sha256="x"), r"at `\$.files\[...\].sha256`"),
    (lambda m: m["files"].pop("MODEL_CARD.md"), r"MODEL_CARD.md is not listed - at `\$.files`"),
]


@pytest.mark.parametrize(("change", "problem"), WRONG_FIELDS)
def test_wrong_fields(folder: Path, change: Callable[[dict[str, Any]], object], problem: str) -> None:
    edit_manifest(folder, change)
    with pytest.raises(BundleError, match=f"bundle.json: .*{problem}"):
        open_bundle(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'{"format_version": 1', b"\xff\xfe{}"])
def test_what_is_no_manifest(folder: Path, text: bytes) -> None:
    (folder / "bundle.json").write_bytes(text)
    with pytest.raises(BundleError, match=r"bundle\.json: "):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["../secret", "sub/file", "..", ".", "a\\b", "C:x", "nul\0", "bundle.json"])
def test_a_file_name_that_leaves_the_folder(folder: Path, name: str) -> None:
    entry = {"bytes": 1, "sha256": "0" * 64}
    edit_manifest(folder, lambda m: m["files"].update({name: entry}))
    with pytest.raises(BundleError, match=r"is no plain file name - at `\$.files`"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx", "vocabulary.txt", "MODEL_CARD.md"])
def test_missing_and_altered_files(folder: Path, name: str) -> None:
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    with pytest.raises(BundleError, match=rf"{name}: was altered .*{len(content) + 1} bytes instead of {len(content)}"):
        open_bundle(folder)
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(BundleError, match=rf"{name}: was altered .*its SHA-256 differs"):
        open_bundle(folder)
    path.unlink()
    with pytest.raises(BundleError, match=f"{name}: is missing"):
        open_bundle(folder)


def test_a_folder_where_a_file_should_be(folder: Path) -> None:
    (folder / "decoder.onnx").unlink()
    (folder / "decoder.onnx").mkdir()
    with pytest.raises(BundleError, match=r"decoder\.onnx: "):
        open_bundle(folder)


def test_files_beside_a_bundle_do_not_matter(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    open_bundle(folder)


def test_a_vocabulary_of_another_size(folder: Path) -> None:
    (folder / "vocabulary.txt").write_text("\n".join(WORDS[:-1]), encoding="utf-8")
    reseal(folder)
    with pytest.raises(BundleError, match=r"vocabulary\.txt: has 11 words, but bundle.json says 12"):
        open_bundle(folder)


def test_a_word_twice(folder: Path) -> None:
    (folder / "vocabulary.txt").write_text("\n".join((*WORDS[:-1], "a")), encoding="utf-8")
    reseal(folder)
    with pytest.raises(BundleError, match=r"vocabulary\.txt: The word 'a' stands twice"):
        open_bundle(folder)


@pytest.mark.parametrize("content", [b"", b"\x0f\x0f", b"not a model", b"\x3a\xff\x01", b"\x80" * 11, b"\x0d\x01"])
def test_what_is_no_onnx_file(folder: Path, content: bytes) -> None:
    (folder / "decoder.onnx").write_bytes(content)
    reseal(folder)
    with pytest.raises(BundleError, match=r"decoder\.onnx: is no ONNX file"):
        open_bundle(folder)


def external(location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "outside")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


@pytest.mark.parametrize("location", ["../weights", "/etc/passwd", "sub/../../weights", "unlisted.bin", ""])
def test_weights_outside_the_bundle(folder: Path, location: str) -> None:
    rewrite(folder, "encoder.onnx", lambda m: m.graph.initializer.append(external(location)))
    with pytest.raises(BundleError, match=r"encoder\.onnx: takes weights from .*, which is no file of the bundle"):
        open_bundle(folder)


def test_weights_in_a_file_of_the_bundle(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(bytes(16))
    rewrite(folder, "encoder.onnx", lambda m: m.graph.initializer.append(external("weights.bin")))
    assert "weights.bin" in open_bundle(folder).manifest.files


def test_external_weights_are_found_wherever_a_tensor_can_stand(tmp_path: Path) -> None:
    names = iter("abcdefgh")

    def outside() -> TensorProto:
        return external(next(names))

    inner = helper.make_graph([], "inner", [], [], [outside()])
    value = numpy_helper.from_array(np.zeros(1, np.float32))
    nodes = [
        helper.make_node("Constant", [], ["x"], value=outside()),
        helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
        helper.make_node("Odd", [], ["z"], domain="odd", many=[outside(), value], graphs=[inner]),
    ]
    graph = helper.make_graph(nodes, "outer", [], [], [outside()])
    graph.sparse_initializer.add().values.CopyFrom(outside())
    model = helper.make_model(graph)
    function = helper.make_function(
        "odd", "f", [], ["w"], [helper.make_node("Constant", [], ["w"], value=outside())], []
    )
    model.functions.append(function)
    model.training_info.add().algorithm.initializer.append(outside())
    onnx.save(model, tmp_path / "m.onnx")
    found = onnx_scan.references(tmp_path / "m.onnx")
    assert found.files == set("abcdefg")
    assert found.operators == {("", "Constant"), ("", "If"), ("odd", "Odd")}


def test_a_bundle_holds_plain_files_only(folder: Path) -> None:
    manifest = open_bundle(folder).manifest
    (folder / "sub").mkdir()
    with pytest.raises(BundleError, match="sub: a bundle holds plain files only"):
        write_manifest(folder, manifest)


def test_a_linked_file_is_no_file_of_a_bundle(folder: Path) -> None:
    manifest = open_bundle(folder).manifest
    (folder / "link").symlink_to(folder / "vocabulary.txt")
    with pytest.raises(BundleError, match="link: a bundle holds plain files only"):
        write_manifest(folder, manifest)


def test_a_start_that_is_also_the_end_is_a_bundle(folder: Path) -> None:
    edit_manifest(folder, lambda m: m["tokens"].update(start=2, padding=2))
    assert open_bundle(folder).manifest.tokens.start == 2


def test_the_builder_can_make_every_kind(tmp_path: Path) -> None:
    for index, (memory, attention, past) in enumerate(
        [(True, False, False), (False, True, True), (False, False, False)]
    ):
        kind = {"memory": memory, "attention": attention, "past": past}
        built = build_bundle(tmp_path / str(index), random_tables(index), pixels="float32", **kind)
        assert open_bundle(built).manifest.preprocess.pixels == "float32"
