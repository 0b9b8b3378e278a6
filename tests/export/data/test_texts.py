"""English as the Penn Treebank splits it, written as people write it."""

from __future__ import annotations

import pytest

from batchcap.bundle.detokenizer import Detokenizer
from batchcap_export.data.texts import ENGLISH


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("a dog 's ball", "a dog's ball"),
        ("the dogs ' ball", "the dogs' ball"),
        ("they do n't see , but he ca n't and wo n't", "they don't see, but he can't and won't"),
        ("i 'm sure we 've said they 're what she 'll eat", "i'm sure we've said they're what she'll eat"),
        ("he is gon na jump and can not stop", "he is gonna jump and cannot stop"),
        ("'t is red ; 't was blue", "'tis red; 'twas blue"),
        ("a man -lrb- on the left -rrb- runs .", "a man (on the left) runs."),
        ("a man ( on the left ) runs", "a man (on the left) runs"),
        ("a sign says `` stop ! ''", 'a sign says "stop!"'),
        ("a sign says “ stop ” .", "a sign says “stop”."),
        ("a bus # 5 costs $ 3 , or 20 % more", "a bus #5 costs $3, or 20% more"),
        ("`` ( hello ) '' ...", '"(hello)"...'),
        ("a dog ’s ball", "a dog’s ball"),
        # Left as it is: these depend on more than their neighbours.
        ('a " stop " sign', 'a " stop " sign'),
        ("black - and - white", "black - and - white"),
        # No word of a mark.
        ("canned carrots s n t", "canned carrots s n t"),
    ],
)
def test_english(tokens: str, text: str) -> None:
    words = tokens.split()
    assert Detokenizer(words, ENGLISH)(range(len(words))) == text
