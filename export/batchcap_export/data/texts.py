"""Ways to write words that models share: what an exporter puts into the manifest."""

from __future__ import annotations

from typing import Final, Literal

from batchcap.bundle.detokenizer import Text

TextName = Literal["plain", "english"]

_ENDINGS: Final = ("'s", "'m", "'re", "'ve", "'d", "'ll", "n't")

ENGLISH: Final = Text(
    no_space_before=(
        *(",", ".", ";", ":", "!", "?", "...", "…", "%", ")", "]", "}", "-rrb-", "''", "”", "'", "’"),
        *_ENDINGS,
        *(ending.replace("'", "’") for ending in _ENDINGS),
    ),
    no_space_after=("(", "[", "{", "-lrb-", "$", "#", "£", "€", "``", "“", "`", "‘"),
    contractions={
        "can not": "cannot",
        "gim me": "gimme",
        "gon na": "gonna",
        "got ta": "gotta",
        "lem me": "lemme",
        "wan na": "wanna",
        "'t is": "'tis",
        "'t was": "'twas",
        "``": '"',
        "''": '"',
        "-lrb-": "(",
        "-rrb-": ")",
    },
)
"""Lower-case words split as the Penn Treebank splits them (its tokenizer, MacIntyre 1995), as captions of Flickr8k and
of the Show and Tell code are. Not handled: the straight ``"``, which opens and closes; ``-`` and ``/``, which join or
part; and a lone ``'``, which is taken for one that closes, or for a plural's possession."""

TEXTS: Final[dict[TextName, Text]] = {"plain": Text(), "english": ENGLISH}
