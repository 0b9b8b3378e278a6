"""A bundle's graphs as sessions on one device, their tensors checked."""

from __future__ import annotations

from pathlib import Path

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.graph_contract import verify_decoder, verify_encoder, verify_select
from batchcap.options.run import check_threads
from batchcap.runtime.decoder import Decoder
from batchcap.runtime.device import Device
from batchcap.runtime.encoder import Encoder
from batchcap.runtime.onnx_session import OnnxGraph


def open_sessions(
    bundle: Bundle, device: Device, threads: int = 0, *, sparing: bool = False
) -> tuple[Encoder, Decoder]:
    """Load a bundle's graphs and check that their tensors are those of the contract.

    Args:
        bundle: from `batchcap.bundle.bundle.open_bundle`.
        device: from `choose_device`.
        threads: threads of one session on the CPU; 0 is one for each core this process may use.
        sparing: take no more memory than is needed; see `batchcap.runtime.onnx_session.open_session`.

    Raises:
        OptionError: such a number of threads cannot work.
        BundleError: a graph cannot be loaded, or a tensor is missing, extra, or of a wrong type or shape.
        DeviceError: the device cannot be used.
    """
    threads = check_threads(threads)

    def load(path: Path) -> OnnxGraph:
        return OnnxGraph.load(path, device, threads, sparing=sparing)

    encoder, decoder = load(bundle.encoder_path), load(bundle.decoder_path)
    select = None if bundle.select_path is None else load(bundle.select_path)
    verify_encoder(bundle, encoder.session)
    verify_decoder(bundle, encoder.session, decoder.session)
    if select is not None:
        verify_select(bundle, encoder.session, select.session)
    words, end = len(bundle.vocabulary), bundle.manifest.tokens.end
    return Encoder(encoder), Decoder(decoder, select, words=words, end=end)
