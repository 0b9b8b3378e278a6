"""What the tests of captions inside images share: images on the disk, their records, and a conversion."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from conversions import converted, journal, record

from batchcap.convert.work import Tally
from batchcap.images.files import look
from batchcap.records import Record

CAPTION = 'two dogs & a <cat> hé, "5 $"'


def captioned(folder: Path, images: dict[str, bytes], caption: str = CAPTION, **fields: Any) -> list[Record]:
    """Write images into a folder; their records."""
    records = []
    for name, data in images.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_bytes(data)
            os.utime(file, ns=(1_600_000_000_123_456_789, 1_500_000_000_123_456_789))
        seen = look(str(file))
        records.append(record(name, caption, folder, bytes=seen.size, mtime_us=seen.mtime_us, **fields))
    return records


def embedded(
    tmp_path: Path, images: dict[str, bytes], out: str = "in", caption: str = CAPTION, **options: Any
) -> Tally:
    """Embed one caption into images, in place unless told otherwise; the tally."""
    source = journal(tmp_path / "j", captioned(tmp_path / "in", images, caption))
    return converted(source, tmp_path / out, embed=True, **options)
