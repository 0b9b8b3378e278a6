"""Files of this command to which somebody has added columns or fields: these are not lost."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from conversions import best_of, converted, journal, pictured, record

from batchcap.errors import OutputError
from batchcap.options.convert import TargetName

NAMES: dict[TargetName, str] = {
    "csv": "captions.csv",
    "coco": "coco.json",
    "kohya": "kohya.json",
    "imagefolder": "metadata.jsonl",
}


def extended(target: TargetName, text: str) -> str:
    """A table with one more column, as a program of somebody else writes it in the same style."""
    if target == "csv":
        rows = [[*row, "mine"] for row in csv.reader(io.StringIO(text))]
        written = io.StringIO()
        csv.writer(written, lineterminator="\r\n").writerows(rows)
        return written.getvalue()
    lines = []
    for line in text.splitlines():
        start, brace, rest = line.rpartition("}")
        ends = brace and (target != "kohya" or len(line) > 1) and start
        lines.append(f'{start},"mine":5{brace}{rest}' if ends else line)
    return "\n".join([*lines, ""])


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("target", NAMES)
def test_an_added_column_stays(tmp_path: Path, target: TargetName, ranks: int) -> None:
    photos, out = tmp_path / "photos", tmp_path / NAMES[target]
    pictured(photos, "1.jpg", "2.jpg")
    texts = ['a "dog"', "two\\dogs", "a cat"]
    options = {"all_captions": True} if ranks > 1 and target in ("kohya", "imagefolder") else {}

    def source(number: int) -> Path:
        records = [
            best_of(f"{n}.jpg", *texts, root=photos) if ranks > 1 else record(f"{n}.jpg", texts[0], photos)
            for n in range(1, number + 1)
        ]
        return journal(tmp_path / "j", records, num_captions=ranks)

    assert converted(source(1), out, target, **options).written == 1
    assert converted(source(2), out, target, **options).written == 2, "a file of this command is made anew"
    with out.open(encoding="utf-8", newline="") as file:
        theirs = extended(target, file.read())
    if target in ("coco", "kohya"):
        assert "mine" in str(json.loads(theirs))
    assert "mine" in theirs
    out.write_bytes(theirs.encode())
    if options and target == "imagefolder":
        return  # its first columns are those of this command, and the list after them may be long
    with pytest.raises(OutputError, match="did not write it"):
        converted(source(1), out, target, **options)
    assert out.read_bytes() == theirs.encode()
