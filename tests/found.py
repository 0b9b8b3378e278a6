"""Files on disk, and what is found of them: helpers of the tests of discovery."""

from __future__ import annotations

from pathlib import Path

from batchcap.images import discovery
from batchcap.records import ImageRef


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode("utf-8", "surrogateescape"))
    return folder


def paths(*inputs: Path, root: Path | None = None) -> list[str]:
    """Paths in the output; checks on the way that the keys are distinct and that `count` agrees."""
    refs = list(discovery.resolve(inputs, root).images())
    assert len({ref.key for ref in refs}) == len(refs)
    assert discovery.count(inputs) == len(refs)
    return [ref.path for ref in refs]


def kinds(refs: list[ImageRef]) -> list[tuple[str, str | None]]:
    return [(ref.path, ref.failure and ref.failure.kind) for ref in refs]
