"""Weights that Keras would download, on a machine that cannot: told in seconds, with the file and its place."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("keras", reason="the export extra is not installed")

from batchcap.errors import TrainingError
from batchcap_export.system.downloads import download_timeout
from batchcap_export.training import backbones
from batchcap_export.training.backbones import load_backbone

WAITED = 0.3
# Far more than the waiting, far less than what is not waited for: a busy machine is slow.
SOON = 20.0


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is kept of earlier downloads."""
    from keras.src.backend import config

    monkeypatch.setattr(config, "_KERAS_DIR", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_refused_connection_is_told_with_the_file_and_its_place(
    no_weights: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    with pytest.raises(TrainingError) as caught:
        load_backbone("MobileNetV2", "imagenet", 96)
    assert "those of MobileNetV2 are not on this machine, and could not be downloaded" in caught.value.message
    assert "https://storage.googleapis.com/" in caught.value.message
    assert "no_top.h5" in caught.value.message
    assert "copy that file from another one into" in caught.value.fix
    assert "models" in caught.value.fix


def test_a_silent_network_is_not_waited_for(no_weights: None, silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent}")
    monkeypatch.setattr(backbones, "download_timeout", lambda: download_timeout(WAITED))
    began = time.monotonic()
    with pytest.raises(TrainingError, match="could not be downloaded"):
        load_backbone("MobileNetV2", "imagenet", 96)
    assert time.monotonic() - began < SOON


def test_a_name_server_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: never.wait())
    began = time.monotonic()
    with download_timeout(WAITED), pytest.raises(OSError, match="no answer from a name server"):
        urllib.request.urlopen("http://weights.invalid/", timeout=WAITED)
    never.set()
    assert time.monotonic() - began < SOON


def test_one_address_of_each_family_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(family, 1, 6, "", (f"{n}.0.0.1", 443)) for family in (10, 2) for n in (1, 2, 3)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with download_timeout():
        tried = socket.getaddrinfo("weights.invalid", 443)
    assert sorted(tried) == sorted([found[0], found[3]])


def test_the_process_is_as_patient_as_before() -> None:
    before = socket.getaddrinfo, socket.getdefaulttimeout()
    with pytest.raises(KeyError), download_timeout(WAITED):
        assert socket.getdefaulttimeout() == WAITED
        raise KeyError
    assert (socket.getaddrinfo, socket.getdefaulttimeout()) == before


def test_a_size_that_a_network_cannot_have_is_named() -> None:
    with pytest.raises(TrainingError, match=r"--backbone MobileNetV2 at 8x8: .*Choose another --size"):
        load_backbone("MobileNetV2", size=8)
