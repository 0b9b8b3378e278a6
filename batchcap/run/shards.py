"""Shards: parts of the inputs, for several runs. The key of an image alone decides which one it is in.

The key is the path relative to the root, so every host that has the same folder, wherever it is mounted, divides it
alike, and an image stays in its shard when others come and go.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

from batchcap.errors import OutputError
from batchcap.journal.journal import Journal
from batchcap.journal.reader import JournalReader
from batchcap.options.operation import Shard
from batchcap.records import ImageRef, Key
from batchcap.run.output import Output

# A digest of another purpose than those in the resume index, which are free to change; this one is not.
_PURPOSE: Final = b"batchcap-shard"


def holds(shard: Shard, key: Key) -> bool:
    """Whether a shard has the image: BLAKE2b of its key in 64 bits, modulo the number of shards, is its number - 1.

    A name that file servers spell in different Unicode forms (``é`` as one character or as two) is in one shard.
    """
    path, member = unicodedata.normalize("NFC", key[0]), key[1] and unicodedata.normalize("NFC", key[1])
    text = f"{len(path)}:{path}" if member is None else f"{len(path)}:{path}:{member}"
    data = text.encode("utf-8", "surrogatepass")
    number = int.from_bytes(hashlib.blake2b(data, digest_size=8, person=_PURPOSE).digest())
    return number % shard.count == shard.index - 1


def of_shard(refs: Iterable[ImageRef], shard: Shard | None) -> Iterator[ImageRef]:
    """The images, and folders that cannot be listed, of one shard, in order; None: all of them."""
    return iter(refs) if shard is None else (ref for ref in refs if holds(shard, ref.key))


def check_overwrite(output: Output, shard: Shard) -> None:
    """Check that a new file for one shard would replace nothing of the others.

    Raises:
        OutputError: the output, or what a stopped run with ``overwrite`` has left, has an image of another shard.
    """
    if not isinstance(output, Journal) or output.live == output.path:
        return
    for file in (output.path, output.live):
        for record in JournalReader(file).records():
            if not holds(shard, record.key):
                raise OutputError(
                    f"{file} holds images of other shards than {shard}, and --overwrite would lose them: "
                    f"{record.path} is one.",
                    "Give each shard an output of its own, or remove this one yourself.",
                )
