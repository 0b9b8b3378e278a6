"""The summary of a run as a JSON file. Its fields are a contract: names stay, new ones may come."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from batchcap import __version__
from batchcap.journal.codec import replace_surrogates
from batchcap.records import KEPT_FAILURES, ImageRef, Record
from batchcap.reports.ending import Ending
from batchcap.roots import root_text
from batchcap.run.figures import Summary
from batchcap.system.replaced_file import replace_file

FORMAT_VERSION: Final = 1
PROGRAM: Final = "batchcap run"
_START: Final = re.compile(rb'\s*\{\s*"program":\s*"batchcap run"')
_LIBRARIES: Final = ("numpy", "pillow", "simplejpeg", "msgspec")
_BUILDS: Final = ("onnxruntime-gpu", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """All that the summary of a run is made of."""

    summary: Summary
    ending: Ending
    inputs: Sequence[Path]
    started: float
    """Seconds since 1970."""
    ended: float
    problems: Sequence[str] = ()
    """What could not be reported."""


def write_summary(path: Path, run: Finished) -> None:
    """Replace the file; raises OSError as `replace_file`."""
    text = json.dumps(summary_fields(run), ensure_ascii=False, indent=2) + "\n"
    replace_file(path, replace_surrogates(text).encode())


def is_summary(start: bytes) -> bool:
    """Whether a file that begins so is a summary."""
    return _START.match(start) is not None


def summary_fields(run: Finished) -> dict[str, Any]:
    """What the file holds; ``docs/operations.md`` explains every field."""
    summary, ending, made_with = run.summary, run.ending, run.summary.fingerprint
    return {
        "program": PROGRAM,
        "format_version": FORMAT_VERSION,
        "exit_code": ending.exit_code,
        "outcome": ending.outcome,
        "signal": None if ending.signal is None else signal.Signals(ending.signal).name,
        "error": error_fields(ending) or None,
        "started": utc(run.started),
        "ended": utc(run.ended),
        "seconds": round(summary.wall, 3),
        "inputs": [shown(path) for path in run.inputs],
        "output": None if summary.output is None else shown(summary.output),
        "shard": summary.shard or None,
        "model": made_with.model if made_with else None,
        "preprocess": made_with.preprocess if made_with else None,
        "decoding": made_with.decoding if made_with else None,
        "device": summary.device or None,
        "device_note": summary.device_note or None,
        "images": image_counts(summary),
        "records": summary.records,
        "reached_end": ending.outcome == "finished" and not summary.limited,
        "failures": {
            "count": summary.without_caption,
            "by_kind": kind_counts(kinds_without_caption(summary)),
            "examples": _examples(summary),
        },
        "not_read": {"by_kind": dict(summary.unread.kinds.most_common()), "links": summary.unread.links},
        "images_per_second": round(summary.captioned / summary.wall, 3) if summary.wall else 0.0,
        "bytes": summary.bytes,
        "stage_seconds": stage_seconds(summary),
        "stage_images_per_second": stage_rates(summary),
        "notes": {
            "torn_bytes_cut": summary.cut,
            "relocated_to": summary.relocated or None,
            "unfinished": None if summary.unfinished is None else shown(summary.unfinished),
            "reduced_batch": summary.reduced_batch,
            "replaced": summary.overwrite and summary.committed,
            "problems": list(run.problems),
        },
        "versions": versions(),
    }


def image_counts(summary: Summary) -> dict[str, int]:
    """Images of a run by what became of them."""
    return {
        "captioned": summary.captioned,
        "found_again": summary.found_again,
        "damaged": summary.damaged,
        "failed": summary.failed,
        "failed_anew": summary.failed_anew,
        "skipped": summary.skipped,
        "skipped_failures": summary.skipped_failures,
    }


def kinds_without_caption(summary: Summary) -> Counter[tuple[str, str]]:
    """Images of the inputs whose record is an error, made now or before, by stage and kind."""
    earlier = Counter({("decode", kind): count for kind, count in summary.skipped_kinds.items()})
    return summary.failed_kinds + earlier


def _examples(summary: Summary) -> list[dict[str, Any]]:
    """The first few of these; what earlier runs have found has no message here, but in its record."""
    found = [failure_fields(record) for record in summary.failures]
    for ref, kind in summary.skipped_examples[: KEPT_FAILURES - len(found)]:
        found.append(_names(ref) | {"stage": "decode", "kind": kind, "message": None, "folder": False})
    return found


def kind_counts(kinds: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    """The most frequent kind first."""
    return [{"stage": stage, "kind": kind, "count": count} for (stage, kind), count in kinds.most_common()]


def failure_fields(record: Record) -> dict[str, Any]:
    """An image that failed, named as in its record."""
    assert record.error is not None
    return _names(record) | {
        "stage": record.error.stage,
        "kind": record.error.kind,
        "message": record.error.message,
        "folder": record.error.of_folder,
    }


def _names(image: Record | ImageRef) -> dict[str, Any]:
    names = {"path": image.path, "member": image.member, "path_b64": image.path_b64}
    return {name: value for name, value in names.items() if value is not None}


def error_fields(ending: Ending) -> dict[str, str]:
    """What stopped a run; empty where no error did."""
    if not ending.error:
        return {}
    return {"type": ending.error, "title": ending.title, "message": ending.message, "fix": ending.fix}


def stage_seconds(summary: Summary) -> dict[str, float]:
    """Stages overlap, and ``load`` is the sum over all threads."""
    return {stage: round(seconds, 6) for stage, seconds in asdict(summary.seconds).items()}


def stage_rates(summary: Summary) -> dict[str, float]:
    """Images that went through each stage by its seconds; a stage without seconds is left out."""
    images = {"encode": summary.captioned, "search": summary.captioned}
    spent = {stage: seconds for stage, seconds in asdict(summary.seconds).items() if seconds}
    return {stage: round(images.get(stage, summary.done) / seconds, 3) for stage, seconds in spent.items()}


def versions() -> dict[str, str]:
    """Of batchcap, Python, the system and the libraries that decide a caption; none of them is loaded for it."""
    from importlib import metadata  # takes a while, and most runs leave no report

    found = {
        "batchcap": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    for name in (*_BUILDS, *_LIBRARIES):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if name in _BUILDS:
            found.setdefault("onnxruntime", version)
            found.setdefault("onnxruntime_build", name)
        else:
            found[name] = version
    return found


def utc(seconds: float) -> str:
    """``2026-11-21T21:47:40.123Z`` (RFC 3339) for seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown(path: Path) -> str:
    """The absolute path; a ``file:`` URI of its bytes where they are not UTF-8."""
    return root_text(os.path.abspath(path))  # noqa: PTH100 - a link keeps its name
