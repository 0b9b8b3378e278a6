"""What the tests of conversions share: records, journals, and a conversion of one into the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from journals import captioned, failed, ref
from PIL import Image

from batchcap.convert.convert import convert
from batchcap.convert.work import Tally
from batchcap.journal.formats import make_codec
from batchcap.options.convert import ConvertOptions, TargetName
from batchcap.options.output import Format
from batchcap.records import Caption, Record

ROOT = "/photos"


def record(path: str, caption: str | None = None, root: str | Path = ROOT, **fields: Any) -> Record:
    """A record; without a caption it says what is in the image by its name."""
    made = captioned(ref(path), f"an image of {path}" if caption is None else caption)
    return msgspec.structs.replace(made, root=str(root), **fields)


def failure(path: str, root: str | Path = ROOT) -> Record:
    return msgspec.structs.replace(failed(ref(path)), root=str(root))


def best_of(path: str, *captions: str, root: str | Path = ROOT) -> Record:
    """A record with several captions, the best one first."""
    several = tuple(Caption(text, -8.0 - rank, -1.0 - rank / 10) for rank, text in enumerate(captions))
    return record(path, captions[0], root, captions=several, log_prob=-8.0, score=-1.0)


def journal(path: Path, records: Iterable[Record], format: Format = "jsonl", num_captions: int = 1) -> Path:
    """Write a journal; superseded records may be among them."""
    codec = make_codec(format, num_captions)
    path.write_bytes(codec.header + codec.encode(list(records)))
    return path


def pictured(folder: Path, *names: str) -> list[Record]:
    """Small images of different pixels and their records, as a run has them: with size and time."""
    records = []
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (number * 40 % 256, 90, 20)).save(folder / name)
        state = (folder / name).stat()
        records.append(record(name, root=folder, bytes=state.st_size, mtime_us=state.st_mtime_ns // 1000))
    return records


def converted(source: Path, out: Path, to: TargetName | None = None, **options: Any) -> Tally:
    return convert(ConvertOptions(journal=source, output=out, to=to, **options))


def files(folder: Path) -> dict[str, str]:
    """The text of every file below a folder, by its name with ``/``; hidden ones too."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def counts(reasons: Mapping[str, Any]) -> dict[str, int]:
    return {reason: found.count for reason, found in reasons.items()}
