"""The export stage: train or load Keras captioners and turn them into batchcap bundles. Needs ``batchcap[export]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchcap_export.api import caption_model, export_captioner
    from batchcap_export.model import CaptionModel, Original

__all__ = ["CaptionModel", "Original", "caption_model", "export_captioner"]


def __getattr__(name: str) -> Any:
    """Import what is asked for: TensorFlow is slow to load, and data sets and scores do without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from batchcap_export import api, model

    return getattr(api, name, None) or getattr(model, name)
