"""The export stage: train or load Keras captioners and turn them into batchcap bundles. Needs ``batchcap[export]``."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import batchcap  # noqa: F401 - before onnxruntime: it turns its telemetry off

if TYPE_CHECKING:
    from batchcap_export.exporting.from_functions import export_captioner
    from batchcap_export.model.caption_model import CaptionModel, Original
    from batchcap_export.model.functions import caption_model

__all__ = ["CaptionModel", "Original", "caption_model", "export_captioner"]


def __getattr__(name: str) -> Any:
    """Import what is asked for: TensorFlow is slow to load, and data sets and scores do without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from batchcap_export.exporting import from_functions
    from batchcap_export.model import caption_model, functions

    return next(getattr(module, name) for module in (caption_model, functions, from_functions) if hasattr(module, name))


def _forget(folder: Path) -> None:
    """Remove the folder of Keras again; not what was downloaded into it meanwhile."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == ["keras.json"]:
            (folder / "keras.json").unlink()
            folder.rmdir()


# Keras writes its four default settings into the home folder when it is loaded. Who had none keeps none.
if "keras" not in sys.modules and "KERAS_HOME" not in os.environ:
    _keras = Path("~/.keras").expanduser()
    if not _keras.exists():
        atexit.register(_forget, _keras)
