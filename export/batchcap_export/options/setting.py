"""The options of the export stage: no environment variable sets them, and their files must be readable."""

from __future__ import annotations

from functools import partial

from batchcap.options.field import Option

setting = partial(Option, env=False, readable=True)
"""`batchcap.options.field.Option` for a field of an options class here."""
