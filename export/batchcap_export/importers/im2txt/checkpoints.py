"""Checkpoints of the Show and Tell code as files."""

from __future__ import annotations

import re
from pathlib import Path

_CHECKPOINT = re.compile(r"model\.ckpt-(\d+)(?:\.index)?")


def find_checkpoint(source: Path) -> Path | None:
    """The newest ``model.ckpt-STEP`` of a folder, or the one that ``source`` itself names; None: there is none."""
    if source.is_dir():
        found = [(int(m[1]), f) for f in source.iterdir() if (m := _CHECKPOINT.fullmatch(f.name))]
        return source / f"model.ckpt-{max(found)[0]}" if found else None
    named = source.with_name(source.name.removesuffix(".index").removesuffix(".meta"))
    there = named.is_file() or named.with_name(f"{named.name}.index").is_file()
    return named if there and _CHECKPOINT.fullmatch(named.name) else None
