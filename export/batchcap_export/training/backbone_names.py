"""Backbones by name, without TensorFlow: which there are, and which settings `small` does not take."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

from batchcap.errors import OptionError

SMALL_SIZE = 160
"""Rows and columns of the backbone `small`."""


def check_small(name: str, weights: str, size: int | None) -> None:
    """Check the settings that the backbone ``small`` does not take.

    Raises:
        OptionError: another size than it has, or weights that were never published.
    """
    if name == "small" and size not in (None, SMALL_SIZE):
        raise OptionError(f"--backbone small is made for {SMALL_SIZE}x{SMALL_SIZE}, not {size}.", "Leave --size out.")
    if name == "small" and weights == "imagenet":
        raise OptionError("--weights imagenet: there are none for small.", "Distil it first: batchcap distill --help.")


def backbone_names() -> tuple[str, ...]:
    """``small`` and the networks of keras.applications, read from its source: importing it takes seconds.

    Empty where the source does not say.
    """
    keras = importlib.util.find_spec("keras")
    source = Path(keras.origin).parent / "applications" / "__init__.py" if keras and keras.origin else None
    if source is None or not source.is_file():
        return ()
    tree = ast.parse(source.read_bytes())
    imported = (name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names)
    networks = sorted(name for name in imported if name[:1].isupper())
    return ("small", *networks) if networks else ()
