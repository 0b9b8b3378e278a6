"""What the tests of the journal share: images, records, and a second process."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Continuing, Journal
from batchcap.options.output import Format
from batchcap.records import Failure, Fingerprint, ImageRef, Record

FIRST = Fingerprint("small@11111111", "exact", "beam3-lp0.7#aaaaaaaa")
SECOND = Fingerprint("small@22222222", "exact", "beam3-lp0.7#bbbbbbbb")
FORMATS: tuple[Format, ...] = ("jsonl", "csv")
both = pytest.mark.parametrize("format", FORMATS)
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals, limits and permissions")


def ref(name: str, size: int = 1, mtime_us: int = 1, failure: Failure | None = None) -> ImageRef:
    return ImageRef(path=name, file=f"/photos/{name}", size=size, mtime_us=mtime_us, failure=failure)


def captioned(image: ImageRef, text: str = "a dog", fingerprint: Fingerprint = FIRST) -> Record:
    return Record(
        path=image.path,
        member=image.member,
        path_b64=image.path_b64,
        caption=text,
        log_prob=-8.31,
        score=-1.17,
        width=640,
        height=480,
        bytes=image.size,
        mtime_us=image.mtime_us,
        model=fingerprint.model,
        preprocess=fingerprint.preprocess,
        decoding=fingerprint.decoding,
    )


def failed(
    image: ImageRef,
    stage: str = "decode",
    message: str = "no",
    fingerprint: Fingerprint = FIRST,
    *,
    kind: str = "corrupt",
) -> Record:
    error = Failure("read" if stage == "read" else "decode", kind, message)
    fields = {"caption": None, "log_prob": None, "score": None, "width": None, "height": None}
    return msgspec.structs.replace(captioned(image, fingerprint=fingerprint), error=error, **fields)


AWKWARD = [
    captioned(ref("été/naïve 😀.jpg"), 'a "quoted" dog,\nover two\r\nlines \\n'),
    captioned(ref("b\\n.jpg"), ""),
    failed(ref("c,d.jpg"), "read", "Zugriff verweigert: \u2028 „c,d.jpg“\n"),
]
"""Records whose texts are hard for a line format."""


def opened(path: Path, format: Format = "jsonl", **options: Any) -> Journal:
    """A journal for a run with these options."""
    how = {field.name: options.pop(field.name) for field in dataclasses.fields(Continuing) if field.name in options}
    return Journal.open(path, format, options.pop("fingerprint", FIRST), Continuing(**how), **options)


def write(path: Path, records: Sequence[Record], format: Format = "jsonl", **options: Any) -> None:
    with opened(path, format, **options) as journal:
        journal.append(records)
        journal.commit()


def read(path: Path, format: Format = "jsonl", num_captions: int = 1) -> list[Record]:
    codec = make_codec(format, num_captions)
    data = path.read_bytes()
    assert data.startswith(codec.header)
    assert data.endswith(b"\n") or not data
    return [codec.decode(line) for line in data[len(codec.header) :].split(b"\n")[:-1]]


def todo(path: Path, refs: Iterable[ImageRef], format: Format = "jsonl", **options: Any) -> list[str]:
    with opened(path, format, **options) as journal:
        return [image.path for image in journal.pending(refs)]


def python(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """A second process, with this module as ``t``."""
    start = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport journals as t\n"
    command = [sys.executable, "-c", start + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def names(folder: Path) -> list[str]:
    """What lies in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


# What another program may do to an output.


def shorten(out: Path) -> None:
    out.write_bytes(out.read_bytes()[:30])


def lengthen(out: Path) -> None:
    with out.open("ab") as file:
        file.write(b"# a note\n")


def replace(out: Path) -> None:
    out.with_name("copy").write_bytes(out.read_bytes())
    out.with_name("copy").rename(out)


def rename(out: Path) -> None:
    out.rename(out.with_name("rotated"))


KILLED = """
    out, format = t.Path(sys.argv[1]), sys.argv[2]
    with t.Journal.open(out, format, t.FIRST) as journal:
        for batch in range(10**9):
            named = [f"{batch}-{number} é" for number in range(7)]
            journal.append([t.captioned(t.ref(name), "two\\nlines") for name in named])
            print(batch, flush=True)
    """
