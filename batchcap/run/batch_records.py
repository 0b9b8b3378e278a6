"""From a batch and its captions to the records of its images."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from batchcap.images.loader import Batch, Known, Loaded
from batchcap.journal.scores import rounded
from batchcap.records import Caption, Failure, Fingerprint, ImageRef, Record


def batch_records(
    batch: Batch, captions: Sequence[tuple[Caption, ...]], fingerprint: Fingerprint, root: str | None, *, several: bool
) -> list[Record]:
    """One record an image of the batch, in order.

    Args:
        batch: the images, and what became of each.
        captions: those of the images that could be decoded, in order, best first.
        fingerprint: how they were made.
        root: of the records.
        several: records have a list of all captions besides the best one.
    """
    of_good = iter(captions)
    records = []
    for ref, outcome, sha256 in zip(batch.refs, batch.outcomes, batch.hashes, strict=True):
        base = _base_record(ref, sha256, root, fingerprint)
        if isinstance(outcome, Known):
            records.append(outcome.record)
        elif isinstance(outcome, Failure):
            records.append(structs.replace(base, error=outcome))
        else:
            records.append(_with_captions(base, outcome, next(of_good), several=several))
    return records


def _base_record(ref: ImageRef, sha256: str | None, root: str | None, fingerprint: Fingerprint) -> Record:
    """What a record says of its image, whether that gets a caption or not."""
    return Record(
        path=ref.path,
        member=ref.member,
        path_b64=ref.path_b64,
        bytes=ref.size,
        mtime_us=ref.mtime_us,
        sha256=sha256,
        root=root,
        model=fingerprint.model,
        preprocess=fingerprint.preprocess,
        decoding=fingerprint.decoding,
    )


def _with_captions(base: Record, image: Loaded, captions: Sequence[Caption], *, several: bool) -> Record:
    written = tuple(map(rounded, captions))
    best = written[0]
    return structs.replace(
        base,
        caption=best.caption,
        log_prob=best.log_prob,
        score=best.score,
        captions=written if several else None,
        damaged=image.damaged,
        width=image.width,
        height=image.height,
    )
