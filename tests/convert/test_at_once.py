"""Conversions at the same time: no image gets the caption of another one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from conversions import converted, files, journal, record

from batchcap.options.convert import TargetName


@pytest.mark.parametrize("target", ["txt", "xmp"])
def test_into_a_folder_and_one_above(tmp_path: Path, target: TargetName, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lock different folders. One has written a sidecar and is about to move it, as the other one does."""
    above = journal(tmp_path / "above", [record("2024/a.jpg")])
    below = journal(tmp_path / "below", [record("b.jpg")])
    (tmp_path / "out/2024").mkdir(parents=True)
    move, others, waiting = os.replace, [below], []

    def replace(one: Any, other: Any) -> None:
        if others:
            waiting.append((one, other))
            converted(others.pop(), tmp_path / "out/2024", target)
            return
        while waiting:
            move(*waiting.pop())
        move(one, other)

    monkeypatch.setattr("os.replace", replace)
    assert converted(above, tmp_path / "out", target).written == 1
    found = files(tmp_path / "out/2024")
    assert len(found) == 2
    assert all(
        f"an image of {path}" in found[name] for name, path in zip(sorted(found), ("2024/a.jpg", "b.jpg"), strict=True)
    )
