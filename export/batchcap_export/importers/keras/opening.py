"""Captioners that Keras has saved: an encoder and the decoder of one step, or a whole training model."""

from __future__ import annotations

from pathlib import Path

from batchcap.errors import ExportError
from batchcap_export.importers.keras import pairs, training_model
from batchcap_export.importers.keras.keras_files import open_file
from batchcap_export.importers.keras.networks import Network
from batchcap_export.importers.keras.saved_models import open_saved_model
from batchcap_export.importers.keras.vocabulary import read_vocabulary
from batchcap_export.model.caption_model import CaptionModel
from batchcap_export.options.importing import ImportOptions


def load(source: Path, options: ImportOptions) -> CaptionModel:
    """A saved Keras captioner.

    Args:
        source: the encoder, where ``options.decoder`` is given; else a training model.

    Raises:
        ExportError: something is missing or does not fit.
    """
    if options.vocabulary is None:
        raise ExportError(
            f"{source}: a saved network does not hold its words.", "Name the file that does: --vocabulary FILE."
        )
    vocabulary = read_vocabulary(options.vocabulary)
    network = open_network(source)
    if options.decoder is None:
        return training_model.cut(network, vocabulary, options)
    return pairs.pair(network, open_network(options.decoder), vocabulary, options)


def open_network(path: Path) -> Network:
    """Open a ``.keras`` file, an ``.h5`` file or a SavedModel folder.

    Raises:
        ExportError: no such file, it holds no whole network, code of its own, or layers that Keras does not know.
    """
    if not path.exists():
        raise ExportError(f"{path}: no such file or folder.", "Name a .keras or .h5 file, or a SavedModel folder.")
    network = open_saved_model(path) if path.is_dir() else open_file(path)
    for port in network.inputs:
        if port.shape and port.shape[0] is not None:
            raise ExportError(
                f"{path}: input {port} is made for a batch of {port.shape[0]}.", "Save it with any batch size."
            )
    return network
