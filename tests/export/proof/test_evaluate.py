"""Our scores against scores that somebody else published."""

from __future__ import annotations

import math
import re
import string

import pytest
from paths import SHARED

pytest.importorskip("pycocoevalcap", reason="the eval extra is not installed")
pytest.importorskip("batchcap_export.data.words", reason="the export extra is not installed")

from batchcap_export.data.caption_files import read_captions
from batchcap_export.proof.evaluate import empty_warning, score, score_words


def _filtered(text: str) -> str:
    """Keras's default filter: these characters become blanks."""
    return " ".join(re.sub(f"[{re.escape(string.punctuation.replace(chr(39), ''))}]", " ", text.lower()).split())


@pytest.mark.skipif(not SHARED.is_dir(), reason="reference data (../shared/data) is not here")
def test_published_scores_are_reproduced() -> None:
    """keras-image-captioning's validation captions: lower case, Keras's filter, the end word counted on both sides."""
    text = (SHARED / "metrics" / "keras-image-captioning-validation-predictions.yaml").read_text()
    # YAML goes on in an indented line where one gets too long.
    rows = re.sub(r"\n\s+", " ", text.strip()).splitlines()
    captions = dict(row.split(": ", 1) for row in rows)
    gold = read_captions(SHARED / "flickr8k" / "captions.token.txt")
    names = list(captions)
    references = {i: [f"{_filtered(text)} zeosz" for text in gold[name]] for i, name in enumerate(names)}
    bleu, cider = score_words(references, {i: [captions[name]] for i, name in enumerate(names)})
    metrics = (SHARED / "metrics" / "keras-image-captioning-validation-metrics.yaml").read_text()
    published = {key: float(value) for key, value in (row.split(": ") for row in metrics.splitlines() if row.strip())}
    assert [*bleu, cider] == pytest.approx(
        [*(published[f"bleu_{n}"] for n in range(1, 5)), published["cider"]], abs=1e-12
    )


def test_scores_that_can_be_worked_out_by_hand() -> None:
    """The small case: Papineni's example of clipped counts, a brevity penalty, and captions that say it all."""
    the = " ".join(["the"] * 7)
    bleu, _ = score_words({0: ["the cat is on the mat now", "there is a cat on the mat"]}, {0: [the]})
    assert bleu[0] == pytest.approx(2 / 7)
    bleu, _ = score_words({0: ["a dog runs on the grass"]}, {0: ["a dog runs"]})
    assert bleu[0] == pytest.approx(math.exp(1 - 6 / 3))
    said = {0: ["a dog runs on grass"], 1: ["two men sit down there"]}
    bleu, cider = score_words(said, said)
    assert bleu == pytest.approx((1, 1, 1, 1))
    assert cider == pytest.approx(10)


def test_captions_without_a_word_are_told() -> None:
    assert empty_warning(["a dog"] * 9 + [""]) == ""
    assert empty_warning(["a dog"] * 8 + [""] * 2).startswith("warning: 2 of 10 captions are empty")


def test_case_and_punctuation_do_not_count_and_the_settings_are_told() -> None:
    references = [["a dog runs on grass"], ["two men sit"]]
    told = score(["A dog runs, on grass.", "two men sit"], references, "dev")
    assert told.bleu[0] == pytest.approx(1.0)
    assert told.distinct == 2
    assert told.signature.startswith("dev; pycocoevalcap ")
    assert "2 images, 1 references" in told.signature
    worse = score(["a cat sleeps", "two men sit"], references)
    assert worse.bleu[0] < told.bleu[0]
    assert worse.cider < told.cider
