"""A captioner from a Python file of the user: a function in it returns what `batchcap_export.caption_model` makes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from batchcap.errors import ExportError
from batchcap_export.model.caption_model import CaptionModel

_FIX = "See examples/custom_captioner.py."


def load(file: Path, function: str) -> CaptionModel:
    """Run ``file``, call its ``function`` without arguments, and take the `CaptionModel` that it returns.

    The file's folder is importable while it runs, so that it can keep its classes in files beside it.

    Raises:
        ExportError: no such file or function, or it returns something else. What the file itself raises passes through
            as the cause.
    """
    # A name of its own: a file may be called as a module that exists.
    spec = importlib.util.spec_from_file_location(f"batchcap_hook_{file.stem}", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise ExportError(f"{file}: no such Python file.", _FIX)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent.resolve()))
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        make = getattr(module, function, None)
        if not callable(make):
            raise ExportError(f"{file}: has no function {function}().", _FIX)
        model = make()
    except ExportError:
        raise
    except Exception as error:  # the user's code, which may raise anything
        raise ExportError(f"{file}: {type(error).__name__}: {error}", _FIX) from error
    finally:
        sys.path.remove(str(file.parent.resolve()))
    if not isinstance(model, CaptionModel):
        raise ExportError(f"{file}: {function}() returns {type(model).__name__}, not a CaptionModel.", _FIX)
    return model
