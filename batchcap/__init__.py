"""batchcap: captions for folders of photos, offline, in batches.

The same as a library::

    from batchcap import Captioner

    captioner = Captioner.load("flickr8k-small")
    for image in captioner.caption(["beach.jpg", "dog.png"]):
        print(image.captions[0].caption)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchcap.errors import BatchcapError
    from batchcap.runtime.captioner import Captioner

__version__ = "0.1.0"
__all__ = ["BatchcapError", "Captioner", "__version__"]

# The wheels of onnxruntime (1.29 and later) send its maker a device id and what they run on, and keep both under the
# user's cache folder. Only this variable stops all of it, and only before onnxruntime is loaded: so here, where every
# way in passes, whatever the host has set. BATCHCAP_ALLOW_TELEMETRY=1 leaves the choice to the host.
if os.environ.get("BATCHCAP_ALLOW_TELEMETRY") != "1":
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_HOMES = {"Captioner": "batchcap.runtime.captioner", "BatchcapError": "batchcap.errors"}


def __getattr__(name: str) -> Any:
    """Load the public names when they are first used: `batchcap --help` must not wait for NumPy and onnxruntime."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
