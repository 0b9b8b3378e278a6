"""Whether the packages of an extra are installed."""

from __future__ import annotations

import importlib.util

from batchcap.errors import MissingExtraError

EXTRA = "Install what is missing: pip install 'batchcap[export,eval]'"


def need_modules(*names: str) -> None:
    """Raise unless these modules are installed; nothing is imported.

    Raises:
        MissingExtraError: one is not; it says which extra to install.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            what = (
                "Scores need pycocoevalcap" if name == "pycocoevalcap" else "This command needs TensorFlow and tf2onnx"
            )
            raise MissingExtraError(f"{what} ({name} is not installed).", EXTRA)
