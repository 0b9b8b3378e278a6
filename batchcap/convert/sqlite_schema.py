"""The tables of target ``sqlite``, and a record as a row of them."""

# ruff: noqa: S608 - what is put into the statements stands in this file

from __future__ import annotations

from typing import Final

import msgspec

from batchcap.records import Record

FORMAT_VERSION: Final = "1"

COLUMNS: Final = {
    "path": "TEXT NOT NULL",
    "member": "TEXT",
    "path_b64": "TEXT",
    "caption": "TEXT",
    "log_prob": "REAL",
    "score": "REAL",
    "captions": "TEXT",
    "error_stage": "TEXT",
    "error_kind": "TEXT",
    "error_message": "TEXT",
    "damaged": "TEXT",
    "width": "INTEGER",
    "height": "INTEGER",
    "bytes": "INTEGER",
    "mtime_us": "INTEGER",
    "sha256": "TEXT",
    "root": "TEXT",
    "model": "TEXT NOT NULL",
    "preprocess": "TEXT NOT NULL",
    "decoding": "TEXT NOT NULL",
}
"""The columns of the table ``captions`` besides ``id``, in the order of `row`."""
_NAMES: Final = ", ".join(COLUMNS)
_KEY: Final = "path, coalesce(path_b64, ''), coalesce(member, '')"
_CHANGING: Final = [name for name in COLUMNS if name not in ("path", "member", "path_b64")]

TABLES: Final = f"""
CREATE TABLE batchcap_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE captions (
  id INTEGER PRIMARY KEY,
  {f", {chr(10)}  ".join(f"{name} {kind}" for name, kind in COLUMNS.items())}
);
"""
# An id of its own: VACUUM renumbers rows without one, and the index of words names them by number.

# Datasette and sqlite-utils find the table of words by the name of its content table in double quotes.
INDEXES: Final = f"""
CREATE UNIQUE INDEX captions_key ON captions ({_KEY});
CREATE VIRTUAL TABLE captions_fts USING fts5(caption, content="captions", content_rowid="id", tokenize="porter");
INSERT INTO captions_fts (captions_fts) VALUES ('rebuild');
CREATE TRIGGER captions_fts_insert AFTER INSERT ON captions BEGIN
  INSERT INTO captions_fts (rowid, caption) VALUES (new.id, new.caption);
END;
CREATE TRIGGER captions_fts_delete AFTER DELETE ON captions BEGIN
  INSERT INTO captions_fts (captions_fts, rowid, caption) VALUES ('delete', old.id, old.caption);
END;
CREATE TRIGGER captions_fts_update AFTER UPDATE OF id, caption ON captions BEGIN
  INSERT INTO captions_fts (captions_fts, rowid, caption) VALUES ('delete', old.id, old.caption);
  INSERT INTO captions_fts (rowid, caption) VALUES (new.id, new.caption);
END;
CREATE VIEW failures AS
  SELECT id, path, member, error_stage, error_kind, error_message, bytes, mtime_us, root, model
  FROM captions WHERE caption IS NULL;
CREATE VIEW failure_kinds AS
  SELECT error_stage, error_kind, count(*) AS images, min(path) AS example
  FROM captions WHERE caption IS NULL GROUP BY error_stage, error_kind ORDER BY images DESC;
CREATE VIEW n_best AS
  SELECT captions.id, captions.path, captions.member, each.key + 1 AS rank,
    json_extract(each.value, '$.caption') AS caption,
    json_extract(each.value, '$.log_prob') AS log_prob,
    json_extract(each.value, '$.score') AS score
  FROM captions, json_each(captions.captions) AS each WHERE captions.captions IS NOT NULL;
"""

INSERT: Final = f"INSERT INTO captions ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})"
# A row that is the same already is not written: its triggers do not run, and nothing is counted.
UPSERT: Final = f"""{INSERT} ON CONFLICT ({_KEY}) DO UPDATE
SET {", ".join(f"{name} = excluded.{name}" for name in _CHANGING)}
WHERE ({", ".join(f"captions.{name}" for name in _CHANGING)})
IS NOT ({", ".join(f"excluded.{name}" for name in _CHANGING)})"""


def row(record: Record) -> tuple[str | float | None, ...]:
    """The values of `COLUMNS` for a record."""
    error = record.error
    stage, kind, message = (None, None, None) if error is None else (error.stage, error.kind, error.message)
    return (
        record.path,
        record.member,
        record.path_b64,
        record.caption,
        record.log_prob,
        record.score,
        None if record.captions is None else msgspec.json.encode(record.captions).decode(),
        stage,
        kind,
        message,
        record.damaged,
        record.width,
        record.height,
        record.bytes,
        record.mtime_us,
        record.sha256,
        record.root,
        record.model,
        record.preprocess,
        record.decoding,
    )
