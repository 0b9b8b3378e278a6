"""Target ``parquet``: one table with a row for each record, as pandas, DuckDB and Hugging Face datasets read it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from batchcap import __version__
from batchcap.convert.files import new_file
from batchcap.convert.work import Work
from batchcap.errors import MissingExtraError
from batchcap.records import Record

FORMAT_VERSION: Final = "1"
_VERSION_KEY: Final = b"batchcap.format_version"
# Rows of a group: what a reader decodes at once, and what is held in memory here.
_GROUP: Final = 50_000
_LISTED: Final = ("model", "decoding", "root")


def convert(work: Work) -> None:
    """Write a row for each record, failures too; see `work.Target`."""
    arrow, parquet = _arrow()
    schema = _schema(arrow)
    tally = work.tally
    values: dict[str, set[str]] = {name: set() for name in _LISTED}
    with (
        new_file(work.output, work.options.overwrite or _is_ours(work.output, arrow, parquet)) as new,
        parquet.ParquetWriter(new.file, schema, compression="zstd") as writer,
    ):
        records = work.records()
        while group := list(islice(records, _GROUP)):
            writer.write_table(_table(arrow, schema, group), row_group_size=_GROUP)
            tally.count(group)
            for name in _LISTED:
                values[name].update(filter(None, (getattr(record, name) for record in group)))
        said = {f"batchcap.{name}s": json.dumps(sorted(found)) for name, found in values.items()}
        versions = {_VERSION_KEY.decode(): FORMAT_VERSION, "batchcap.version": __version__}
        writer.add_key_value_metadata(said | versions)
    tally.settle(new.changed)


def _is_ours(output: Path, arrow: Any, parquet: Any) -> bool:
    """Whether a table is there that an earlier conversion wrote."""
    try:
        return _VERSION_KEY in (parquet.read_metadata(output).metadata or {})
    except (OSError, arrow.ArrowInvalid):  # there is none, or it is no Parquet
        return False


def _arrow() -> tuple[Any, ModuleType]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(
            f"Parquet needs pyarrow, which cannot be imported ({error}).", "pip install 'batchcap[parquet]'"
        ) from error
    return pa, parquet


def _schema(arrow: Any) -> Any:
    """Names and types of the columns; `_column` makes their values."""
    text, word = arrow.string(), arrow.dictionary(arrow.int32(), arrow.string())
    number, count, size = arrow.float64(), arrow.int32(), arrow.int64()
    caption = arrow.struct([("caption", text), ("log_prob", number), ("score", number)])
    columns = {
        "path": text,
        "member": text,
        "path_b64": text,
        "caption": text,
        "log_prob": number,
        "score": number,
        "captions": arrow.list_(caption),
        "error_stage": word,
        "error_kind": word,
        "error_message": text,
        "damaged": text,
        "width": count,
        "height": count,
        "bytes": size,
        "mtime": arrow.timestamp("us", tz="UTC"),
        "sha256": text,
        "root": word,
        "model": word,
        "preprocess": word,
        "decoding": word,
    }
    return arrow.schema(list(columns.items()))


def _table(arrow: Any, schema: Any, records: Sequence[Record]) -> Any:
    """Some records as a table."""
    columns = [arrow.array(_column(field.name, records), type=field.type) for field in schema]
    return arrow.Table.from_arrays(columns, schema=schema)


def _column(name: str, records: Sequence[Record]) -> list[Any]:
    """The values of one column, None where a record has none."""
    if name == "captions":
        return [None if record.captions is None else msgspec.to_builtins(record.captions) for record in records]
    if name == "mtime":
        return [record.mtime_us for record in records]
    if name.startswith("error_"):
        part = name.removeprefix("error_")
        return [None if record.error is None else getattr(record.error, part) for record in records]
    return [getattr(record, name) for record in records]
