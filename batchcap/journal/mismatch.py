"""Whether a run may go on with the records that an output holds: the same root, and made in the same way."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from batchcap.errors import MismatchError, RootError
from batchcap.journal.resume import ResumeIndex
from batchcap.options.decoding import explain_label
from batchcap.records import Fingerprint
from batchcap.roots import Root, file_of, root_folder, same_root

_SHOWN: Final = 3
_UNFINISHED: Final = (
    "It is what a stopped run with --overwrite has left. Give the same inputs and options as then to go on with it, or "
    "remove it to begin again."
)


def check_root(path: Path, index: ResumeIndex, root: Root, *, relocate: bool = False, unfinished: bool = False) -> None:
    """Compare the folder that the paths of an output are relative to with the one of this run.

    ``unfinished``: it is what a stopped run with ``overwrite`` has left.

    Raises:
        RootError: it is another one (unless ``relocate``), is not recorded (unless ``relocate``), or there are several.
    """
    known: list[str] = []
    for each in index.roots:
        if each is not None and not any(same_root(each, other) for other in known):
            known.append(each)
    if len(known) > 1:
        names = " and ".join(_shown(each) for each in known[:_SHOWN])
        raise RootError(
            f"{path}: its paths are relative to different folders: {names}.",
            "One output has one root: put the records of each folder into a file of its own, or start anew with "
            "--overwrite.",
        )
    if relocate:
        _check_moved(path, index, root)
        return
    if None in index.roots:
        raise RootError(
            f"{path}: {index.roots[None]:,} of its records do not say which folder their paths are relative to (an "
            "older version of batchcap wrote them).",
            f"If it is {_shown(root.text)}, add --relocate once, and it is written into every record. Otherwise name "
            "another output.",
        )
    if known and not same_root(known[0], root.text) and not root.names_alike(known[0]):
        raise RootError(
            f"{path}: its paths are relative to {_shown(known[0])}, and those of this run would be relative to "
            f"{_shown(root.text)}.",
            _UNFINISHED
            if unfinished
            else f"For one output of both name both as inputs, with --root {shlex.quote(_shown(known[0]))}. If the "
            f"images have moved from there to {_shown(root.text)}, add --relocate once. Otherwise name another output.",
        )


def _check_moved(path: Path, index: ResumeIndex, root: Root) -> None:
    """Whether images of the output are, with their size, where ``--relocate`` says that all of them are now."""
    samples = [line for line in index.samples if line.bytes and line.root != root.text]
    there = sum(_size(file_of(line, root.text) or "") == line.bytes for line in samples)
    if 2 * there < len(samples):
        raise RootError(
            f"{path}: of {len(samples):,} of its images that were looked for, {there:,} are in {_shown(root.text)} "
            f"with the size that they had, so they have not moved there. The first: {samples[0].path}",
            "Name with --root the folder that this path is relative to now. If most of them were changed as well, "
            "caption them anew, into another output or with --overwrite.",
        )


def _size(file: str) -> int | None:
    try:
        return os.stat(file).st_size  # noqa: PTH116 - the operating system's own spelling
    except (OSError, ValueError):
        return None


def _shown(root: str) -> str:
    return root_folder(root).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_fingerprint(path: Path, index: ResumeIndex, ours: Fingerprint, *, unfinished: bool = False) -> None:
    """Compare how the captions of an output were made with how this run makes them.

    ``unfinished``: it is what a stopped run with ``overwrite`` has left.

    Raises:
        MismatchError: some were made with another model, preprocessing or decoding; the message names what differs.
    """
    others = index.others()
    if not others:
        return
    parts = [
        *_differences("model", [other.model for other, _ in others], ours.model),
        *_differences("preprocess", [other.preprocess for other, _ in others], ours.preprocess),
        *_decodings([other.decoding for other, _ in others], ours.decoding),
    ]
    total = sum(count for _, count in others)
    what = f"{path}: {total} of its captions were made with other settings: {'; '.join(parts)}."
    if unfinished:
        raise MismatchError(what, _UNFINISHED)
    fix = "Add --on-mismatch recaption to caption them again, --on-mismatch keep to leave them, or name another output."
    if index.count:
        fix += (
            " If that was done already, they are captions of images that are no longer there: "
            "keep the option, or start anew with --overwrite."
        )
    raise MismatchError(what, fix)


def _differences(what: str, then: Sequence[str], now: str) -> list[str]:
    """``model was a, b and is now c``, or nothing where all are alike."""
    others = list(dict.fromkeys(value for value in then if value != now))
    if not others:
        return []
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return [f"{what} was {', '.join(others[:_SHOWN])}{more} and is now {now}"]


def _decodings(then: Sequence[str], now: str) -> list[str]:
    """Option by option, as far as the labels name them."""
    others = [label for label in dict.fromkeys(then) if label != now]
    ours = explain_label(now)
    options: dict[str, list[str]] = {}
    for label in others:
        theirs = explain_label(label)
        changed = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
        if not changed:  # the same options by another version of batchcap, which searches in another way
            return _differences("decoding", then, now)
        for name in changed:
            options.setdefault(name, []).append(theirs.get(name, "not set"))
    return [part for name, values in options.items() for part in _differences(name, values, ours.get(name, "not set"))]
