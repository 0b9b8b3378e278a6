"""Tokens as text: special tokens, the words of a bundle, and captions that are written alike."""

from __future__ import annotations

from pathlib import Path

from bundles import WORDS, build_bundle, random_tables, reseal
from solid_images import COLOURS, solid

from batchcap.bundle.detokenizer import Text
from batchcap.runtime.captioner import Captioner


def test_special_tokens_are_never_said(tmp_path: Path) -> None:
    # Padding, start and unknown would be the best of all.
    tables = random_tables()
    tables.logits[:, [0, 1, 3]] += 20
    captioner = Captioner.load(build_bundle(tmp_path / "b", tables), "cpu", num_captions=3)
    for image in captioner.caption(solid(c) for c in COLOURS):
        assert len(image.captions) == 3
        assert all(not set(c.caption.split()) & {"<pad>", "<start>", "<unk>", "<end>"} for c in image.captions)


def test_a_bundle_says_how_its_words_are_written(tmp_path: Path) -> None:
    words = ("<pad>", "<start>", "<end>", "<unk>", "a", "dog", "'s", "ru", "##ns", "red", "green", "blue")
    folder = build_bundle(tmp_path / "b", words=words)
    decoding = {"allow_unknown": True, "max_length": 20, "prefix": "red green <unk> ##ns dog 's ru ##ns"}
    images = [solid(colour) for colour in COLOURS]
    plain = [i.captions[0] for i in Captioner.load(folder, "cpu", **decoding).caption(images)]
    assert all(caption.caption.startswith(decoding["prefix"]) for caption in plain)
    reseal(folder, text=Text(no_space_before=("'s",), contractions={"red green": "brown"}, subwords="wordpiece"))
    raw = [i.captions[0] for i in Captioner.load(folder, "cpu", **decoding).caption(images)]
    said = [i.captions[0] for i in Captioner.load(folder, "cpu", style="sentence", **decoding).caption(images)]
    for tokens, text, sentence in zip(plain, raw, said, strict=True):
        # The mark for unknown words is a word, whatever follows it.
        assert text.caption.startswith("brown <unk> ns dog's runs")
        assert "#" not in text.caption
        assert sentence.caption == f"B{text.caption[1:]}."
        assert {(c.log_prob, c.score) for c in (tokens, text, sentence)} == {(tokens.log_prob, tokens.score)}


def test_captions_that_are_written_alike_are_one(tiny_bundle: Path, tmp_path: Path) -> None:
    tables = random_tables()
    folder = build_bundle(tmp_path / "b", tables, words=(*WORDS[:4], *(f"w{i}" for i in range(8))))
    decoding = {"num_captions": 6, "beam_size": 6}
    told = [i.captions for i in Captioner.load(folder, "cpu", **decoding).caption(map(solid, COLOURS))]
    # Every word is written as w0, so that captions of one length are one.
    reseal(folder, text=Text(contractions={f"w{i}": "w" for i in range(8)}))
    found = list(Captioner.load(folder, "cpu", **decoding).caption(map(solid, COLOURS), attention=True))
    fewer = 0
    for captions, image in zip(told, found, strict=True):
        best, tokens_of = image.captions, image.tokens
        assert [len(weights) for weights in image.attention] == [len(tokens) for tokens in tokens_of]
        first = {}
        for caption in captions:
            first.setdefault(len(caption.caption.split()), caption.score)
        assert [(len(c.caption.split()), c.score) for c in best] == list(first.items())
        fewer += len(best) < len(captions)
        assert all(len(tokens) == len(c.caption.split()) for tokens, c in zip(tokens_of, best, strict=True))
    assert fewer
