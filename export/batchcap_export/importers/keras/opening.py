"""Captioners that Keras has saved: an encoder and the decoder of one step, or a whole training model."""

from __future__ import annotations

from pathlib import Path

from batchcap.errors import ExportError
from batchcap_export.importers.keras import pairs, training_model
from batchcap_export.importers.keras.networks import open_network
from batchcap_export.importers.keras.vocabulary import read_vocabulary
from batchcap_export.model.captioner import CaptionModel
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
