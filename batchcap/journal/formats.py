"""The line formats of a journal, by name. A new one is one more file with a `Codec`, and one line in the table here."""

from __future__ import annotations

from typing import Final

from batchcap.journal.codec import Codec
from batchcap.journal.format_csv import Csv
from batchcap.journal.format_jsonl import Jsonl
from batchcap.options.output import Format

_CODECS: Final[dict[Format, type[Codec]]] = {"jsonl": Jsonl, "csv": Csv}


def make_codec(name: Format, num_captions: int = 1) -> Codec:
    """The codec of a format for records with up to ``num_captions`` captions."""
    return _CODECS[name](num_captions)


def guess_format(head: bytes) -> Format | None:
    """The format of a journal that begins so; None: it is no journal."""
    return next((name for name, codec in _CODECS.items() if head.startswith(codec.start)), None)
