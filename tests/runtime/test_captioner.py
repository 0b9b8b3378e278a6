"""The captioner as a library: paths and arrays, order, batches, failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import build_bundle, random_tables
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from solid_images import COLOURS, solid

import batchcap
from batchcap.bundle.bundle import open_bundle
from batchcap.decoding.pruning import prune_by_halves
from batchcap.errors import BundleError, DeviceError, OptionError
from batchcap.images.pixels import preprocess
from batchcap.options.decoding import DecodingOptions
from batchcap.runtime.captioner import CaptionedImage, Captioner
from batchcap.runtime.device import Device
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.encoder import Features
from batchcap.runtime.onnx_session import OnnxGraph

TABLES = random_tables()


@pytest.fixture(scope="module")
def captioner(tiny_bundle: Path) -> Captioner:
    return Captioner.load(tiny_bundle, device="cpu", batch_size=3, num_captions=2, max_length=40)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(len(COLOURS))]
    for path, colour in zip(paths, COLOURS, strict=True):
        Image.fromarray(solid(colour)).save(path)
    return paths


def test_captions_say_what_the_tables_say(captioner: Captioner) -> None:
    found = list(captioner.caption(solid(c) for c in COLOURS))
    assert len({image.captions[0].caption for image in found}) >= 4
    for colour, image in zip(COLOURS, found, strict=True):
        assert image.path is None
        assert image.failure is None
        assert len(image.captions) == 2
        for caption in image.captions:
            tokens = tuple(captioner.bundle.vocabulary.id_of(word) for word in caption.caption.split())
            assert not set(tokens) & {0, 1, 2, 3}
            # All of these end long before max_length, so <end> counts.
            assert len(tokens) < 40
            assert caption.log_prob == pytest.approx(TABLES.log_prob(np.array(colour), (*tokens, 2)), abs=1e-4)
            assert caption.score == pytest.approx(caption.log_prob / (len(tokens) + 1) ** 0.7)
        assert image.captions[0].score >= image.captions[1].score


def test_files_and_arrays_give_the_same_in_any_mixture(captioner: Captioner, files: list[Path]) -> None:
    arrays = [solid(c) for c in COLOURS]
    expected = [image.captions for image in captioner.caption(arrays)]
    mixed = [files[0], arrays[1], str(files[2]), files[3], files[4], arrays[5], arrays[6]]
    found = list(captioner.caption(mixed))
    assert [image.captions for image in found] == expected
    assert [image.path for image in found] == [str(m) if not isinstance(m, np.ndarray) else None for m in mixed]


def test_a_bad_file_fails_alone(captioner: Captioner, files: list[Path], tmp_path: Path) -> None:
    broken, missing = tmp_path / "broken.jpg", tmp_path / "missing.jpg"
    broken.write_bytes(b"no image")
    found = list(captioner.caption([files[0], broken, missing, tmp_path, files[1]]))
    assert [image.path for image in found] == [str(p) for p in (files[0], broken, missing, tmp_path, files[1])]
    assert [image.failure and image.failure.stage for image in found] == [None, "decode", "read", "read", None]
    assert [len(image.captions) for image in found] == [2, 0, 0, 0, 2]


def test_attention_is_what_the_tables_look_at(captioner: Captioner, files: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    arrays = [solid(c) for c in COLOURS]
    images = [files[0], broken, arrays[1], files[2], *arrays[3:]]
    found = list(captioner.caption(images, attention=True))
    assert found == list(captioner.caption(images))
    assert found.pop(1).attention is None
    lengths = set()
    for colour, image in zip(COLOURS, found, strict=True):
        assert image.attention is not None
        assert len(image.attention) == len(image.tokens) == len(image.captions) == 2
        for caption, tokens, weights in zip(image.captions, image.tokens, image.attention, strict=True):
            assert captioner.bundle.vocabulary.detokenize(tokens) == caption.caption
            assert weights.dtype == np.float32
            assert weights.shape == (len(tokens), 6)
            assert weights == pytest.approx(TABLES.attention(np.array(colour), tokens), abs=1e-6)
            lengths.add(len(tokens))
    assert len(lengths) > 1


def test_attention_is_not_there_unless_asked_for(captioner: Captioner) -> None:
    (image,) = captioner.caption([solid(COLOURS[0])])
    assert image.attention is None
    assert len(image.tokens) == 2


def test_a_model_without_attention_is_not_asked_for_it(tmp_path: Path) -> None:
    captioner = Captioner.load(build_bundle(tmp_path / "b", attention=False), "cpu")
    images = iter([solid(COLOURS[0])])
    with pytest.raises(OptionError, match=r"tiny@[0-9a-f]{8} gives no attention weights") as caught:
        next(captioner.caption(images, attention=True))
    assert "attention_grid" in caught.value.fix
    with pytest.raises(OptionError, match="no attention weights"):
        captioner.hypotheses(np.zeros((1, 8, 8, 3), np.uint8), 1, attention=True)
    # Nothing was taken, and without it the model captions.
    assert len(list(captioner.caption(images))) == 1


def test_hypotheses_are_the_captions_in_tokens(captioner: Captioner) -> None:
    how = captioner.bundle.manifest.preprocess
    pixels = np.stack([preprocess(solid(c), how) for c in COLOURS])
    found = captioner.hypotheses(pixels, 5)
    say = captioner.bundle.vocabulary.detokenize
    assert len(found) == 5
    for best, captions in zip(found, captioner.caption_pixels(pixels, 5), strict=True):
        assert [(say(h.tokens), h.log_prob, h.score) for h in best] == [
            (c.caption, c.log_prob, c.score) for c in captions
        ]


def test_nothing_in_nothing_out(captioner: Captioner) -> None:
    assert list(captioner.caption([])) == []
    assert captioner.caption_pixels(np.zeros((3, 8, 8, 3), np.uint8), 0) == []


def test_images_are_taken_lazily(captioner: Captioner) -> None:
    def endless() -> object:
        while True:
            yield solid(COLOURS[0])

    first = next(captioner.caption(endless()))
    assert first.captions == next(captioner.caption([solid(COLOURS[0])])).captions


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        3,
        None,
        b"bytes.jpg",
    ],
)
def test_what_is_no_image(captioner: Captioner, image: object) -> None:
    with pytest.raises(OptionError, match="is no image"):
        list(captioner.caption([image]))


@pytest.mark.parametrize("image", ["beach.jpg", Path("beach.jpg"), np.zeros((4, 4, 3), np.uint8)])
def test_one_image_is_not_several(captioner: Captioner, image: Any) -> None:
    """A text is a sequence of texts: it would be captioned letter by letter."""
    with pytest.raises(OptionError, match="One image stands where several are taken"):
        list(captioner.caption(image))


def test_an_array_of_images_is_several(captioner: Captioner) -> None:
    assert len(list(captioner.caption(np.zeros((2, 4, 4, 3), np.uint8)))) == 2


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=9),
    st.integers(1, 9),
    st.integers(1, 4),
)
def test_captions_do_not_depend_on_the_batch(tiny_bundle: Path, colours: list, batch_size: int, beams: int) -> None:
    bundle, device = open_bundle(tiny_bundle), choose_device("cpu")
    decoding = DecodingOptions(beam_size=beams, num_captions=beams, max_length=5)
    alone = Captioner(bundle, decoding, device, 1, threads=1)
    together = Captioner(bundle, decoding, device, batch_size, threads=1)
    images = [solid(colour, 8, 8) for colour in colours]
    expected = [image.captions for image in alone.caption(images)]
    found = [image.captions for image in together.caption(images)]
    assert [[c.caption for c in best] for best in found] == [[c.caption for c in best] for best in expected]
    for one, other in zip(sum(found, ()), sum(expected, ()), strict=True):
        assert one.log_prob == pytest.approx(other.log_prob, abs=2e-5)


def test_padding_rows_do_not_matter(captioner: Captioner) -> None:
    how = captioner.bundle.manifest.preprocess
    pixels = np.stack([preprocess(solid(c), how) for c in COLOURS[:3]])
    full = captioner.caption_pixels(pixels, 3)
    pixels[2] = 77
    assert captioner.caption_pixels(pixels, 2) == full[:2]


@pytest.mark.parametrize("search", ["beam", "sample"])
def test_a_gpu_is_fed_whole_batches(tiny_bundle: Path, search: str) -> None:
    """The road of a GPU's batch, its graphs here on the CPU: all rows go through, ``count`` come out."""
    captioner = Captioner.load(tiny_bundle, "cpu", search=search, num_captions=2, max_length=40)
    pixels = np.stack([preprocess(solid(c), captioner.bundle.manifest.preprocess) for c in COLOURS[:3]])
    keys, fed, encoder = [("one.jpg", None), ("two.jpg", None)], [], captioner._encoder

    def watched(rows: np.ndarray) -> Features:
        fed.append(len(rows))
        return encoder(rows)

    captioner._encoder = watched
    expected = captioner.hypotheses(pixels, 2, keys, attention=True)
    captioner.device = Device("cuda", 0, "a card")
    found = captioner.hypotheses(pixels, 2, keys, attention=True)
    assert fed == [2, 3]
    assert len(found) == 2
    for ours, theirs in zip(found, expected, strict=True):
        assert [h.tokens for h in ours] == [h.tokens for h in theirs]
        assert [h.log_prob for h in ours] == pytest.approx([h.log_prob for h in theirs], abs=1e-5)
        assert all(np.allclose(a.attention, b.attention) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("chosen", [{}, {"search": "sample"}, {"prefix": "a dog"}])
def test_images_that_leave_by_the_graph_change_no_caption(tmp_path: Path, chosen: dict[str, str]) -> None:
    """The road of a GPU's finished images, here on the CPU."""
    folder = build_bundle(tmp_path / "b", select=True)
    captioner = Captioner.load(folder, "cpu", 16, max_length=12, num_captions=2, **chosen)
    images = [solid(tuple(c), 8, 8) for c in np.random.default_rng(4).integers(0, 256, (16, 3)).tolist()]
    expected = list(captioner.caption(images, attention=True))
    sizes: list[int] = []

    def pruning(open_: np.ndarray) -> np.ndarray | None:
        keep = prune_by_halves(open_)
        sizes.extend([] if keep is None else [len(keep)])
        return keep

    assert captioner.bundle.select_path is not None
    captioner._decoder.select = OnnxGraph.load(captioner.bundle.select_path, captioner.device, 1)
    captioner._decoder.pruning = pruning
    found = list(captioner.caption(images, attention=True))
    assert found == expected
    for one, other in zip(found, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.attention, other.attention, strict=True))
    assert sizes
    assert set(sizes) <= {8, 4, 2, 1}


def test_time_is_counted(captioner: Captioner) -> None:
    before = dict(captioner.seconds)
    list(captioner.caption([solid(COLOURS[0])]))
    assert set(captioner.seconds) == {"encode", "search"}
    assert all(captioner.seconds[stage] > before[stage] for stage in before)


def test_the_fingerprint_holds_what_decides_a_caption(tiny_bundle: Path, captioner: Captioner) -> None:
    bundle = open_bundle(tiny_bundle)
    assert captioner.fingerprint.model == bundle.label
    assert captioner.fingerprint.preprocess == "exact"
    assert captioner.fingerprint.decoding == captioner.decoding.label
    same = Captioner.load(tiny_bundle, "cpu", 7, num_captions=2, max_length=40)
    assert same.fingerprint == captioner.fingerprint
    other = Captioner.load(tiny_bundle, "cpu", 7, num_captions=2, max_length=41)
    assert other.fingerprint != captioner.fingerprint


def test_a_model_in_float32(tmp_path: Path) -> None:
    folder = build_bundle(tmp_path / "b", pixels="float32", memory=False)
    found = list(Captioner.load(folder, "cpu").caption([solid(COLOURS[0])]))
    assert isinstance(found[0], CaptionedImage)
    assert found[0].captions[0].caption


@pytest.mark.parametrize("size", [0, -1, 4097])
def test_a_batch_size_that_cannot_be(tiny_bundle: Path, size: int) -> None:
    with pytest.raises(OptionError, match="--batch-size"):
        Captioner.load(tiny_bundle, "cpu", size)


def test_a_model_that_does_not_exist() -> None:
    with pytest.raises(BundleError, match="no-such-model: not a bundle"):
        Captioner.load("no-such-model")


@pytest.mark.skipif(choose_device("auto").kind == "cuda", reason="has a GPU")
def test_a_demanded_gpu_that_is_absent(tiny_bundle: Path) -> None:
    with pytest.raises(DeviceError):
        Captioner.load(tiny_bundle, "cuda")


def test_the_public_name_is_this_one() -> None:
    assert batchcap.Captioner is Captioner


@pytest.mark.parametrize("level", [np.nan, np.inf])
def test_numbers_that_overflow_are_an_error_and_no_empty_captions(tmp_path: Path, level: float) -> None:
    tables = random_tables()
    tables.logits[:, 5] = level
    captioner = Captioner.load(build_bundle(tmp_path / "broken", tables), device="cpu")
    with pytest.raises(BundleError, match=r"decoder\.onnx: gives NaN") as caught:
        list(captioner.caption([solid(c) for c in COLOURS]))
    assert "overflow" in caught.value.fix


def test_a_model_that_allows_no_word_is_an_error(tmp_path: Path) -> None:
    tables = random_tables()
    tables.logits[:, 1:] = -np.inf  # nothing but padding, which no caption may hold
    captioner = Captioner.load(build_bundle(tmp_path / "mute", tables), device="cpu")
    with pytest.raises(BundleError, match=r"decoder\.onnx: allows no first word"):
        list(captioner.caption([solid(c) for c in COLOURS]))
