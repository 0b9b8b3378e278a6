"""TensorFlow for the commands that need it: whether it is there, and loading it without its messages."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from batchcap.errors import MissingExtraError
from batchcap.system.interrupts import Interrupted, InterruptGuard
from batchcap.system.process import is_ours


def need_export() -> None:
    """Raise unless TensorFlow and what converts its graphs are installed; nothing is imported, which is slow."""
    from batchcap_export.system.extras import need_modules

    need_modules("tensorflow", "keras", "tf2onnx", "onnx")


@contextmanager
def tensorflow_loaded(verbosity: int, stopped: str) -> Iterator[None]:
    """TensorFlow, without what it says of processors and absent GPUs unless ``verbosity`` asks for it.

    SIGTERM ends the work as Ctrl-C does, with its clean-up, and ``stopped`` is said then.
    """
    try:
        with InterruptGuard(), _loaded(verbosity):
            yield
    except Interrupted:
        from batchcap.console.terminal import say

        if is_ours():  # what TensorFlow was just making is incomplete, and may fail while it is removed
            sys.unraisablehook = lambda _: None
        say(stopped)
        raise


@contextmanager
def _loaded(verbosity: int) -> Iterator[None]:
    if verbosity:
        _import_all()
        yield
        return
    from batchcap_export.system.stderr_filter import without_noise

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with without_noise():
        _import_all()
        _quiet_loggers()
        yield


def _import_all() -> None:
    from batchcap_export.system.extras import EXTRA

    try:
        import keras  # noqa: F401
        import onnx  # noqa: F401
        import tensorflow as tf  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"TensorFlow or tf2onnx cannot be imported ({error}).", EXTRA) from error
    # From here on TensorFlow imports code that it writes into the temporary folder. It removes that code, but
    # not what Python compiles of it.
    sys.dont_write_bytecode = True


def _quiet_loggers() -> None:
    """Turn off Keras's and the converter's own messages."""
    import logging

    import keras
    from absl import logging as absl_logging

    keras.utils.disable_interactive_logging()
    absl_logging.set_verbosity(absl_logging.ERROR)
    for name in ("tensorflow", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
