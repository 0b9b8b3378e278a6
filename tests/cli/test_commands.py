"""`batchcap info`, `doctor` and `bench`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from commands import COUNT, invoke

from batchcap import __version__
from batchcap.runtime import device_choice

pytestmark = pytest.mark.usefixtures("plain_environment")


def test_info(tiny_bundle: Path, tmp_path: Path) -> None:
    shown = invoke("info", tiny_bundle)
    assert shown.exit_code == 0
    for text in ("tiny@", "8x8", "12 words", "2x3 regions", "beam 3,", "whole words", "decoder.onnx"):
        assert text in shown.stdout
    missing = invoke("info", tmp_path / "nowhere")
    assert missing.exit_code == 1
    assert "not a bundle" in missing.stderr


def test_doctor(tiny_bundle: Path) -> None:
    shown = invoke("doctor", "--model", tiny_bundle)
    assert shown.exit_code == 0
    assert re.search(r"batchcap +" + re.escape(__version__), shown.stdout)
    assert re.search(r"cpu .* works: \d+ ms", shown.stdout)
    assert "GPU" in shown.stdout


def test_doctor_says_what_to_install_and_when(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(device_choice.ctypes, "CDLL", absent)
    told = " ".join(invoke("doctor", "--model", tiny_bundle).stdout.split())
    assert "No GPU is used, and --device auto takes the CPU. There is no NVIDIA driver" in told
    assert "If this machine has an NVIDIA GPU, install NVIDIA's driver for it; if not, use --device cpu." in told


def test_doctor_fails_where_no_device_works(tmp_path: Path) -> None:
    shown = invoke("doctor", "--model", tmp_path / "nowhere")
    assert shown.exit_code == 1
    assert "does not work" in shown.stdout


def test_bench(tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    options = ("--images", "5", "--repeats", "2", "--batch-size", "4", "--device", "cpu", "--json", file)
    done = invoke("bench", "--model", tiny_bundle, *options)
    assert done.exit_code == 0, done.output
    assert "end to end" in done.stdout
    report = json.loads(file.read_text())
    parts = {part["name"]: part for part in report["parts"]}
    assert len(parts) == 10
    assert all(len(part["runs"]) == 2 and part["median"] > 0 for part in parts.values())
    assert {part["unit"] for part in parts.values()} == {"images/s", "ms", "us", "steps"}
    for rate, cost in zip(parts["search alone"]["runs"], parts["search, an image"]["runs"], strict=True):
        assert rate * cost == pytest.approx(1000)
    assert parts["its bookkeeping, a step"]["median"] < parts["search, a step"]["median"]
    assert re.search(r"its bookkeeping, a step *│ *[\d.]+ │ ms", done.stdout)
    assert parts["end to end"]["median"] < parts["encoder alone"]["median"]
    assert report["settings"]["images"] == 5
    assert report["settings"]["batch_size"] == 4
    assert report["machine"]["cores"] >= 1


def test_bench_with_a_folder(photos: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = invoke("bench", photos, "--model", tiny_bundle, "--repeats", "1", "--device", "cpu", "--json", file)
    assert done.exit_code == 0, done.output
    assert json.loads(file.read_text())["settings"]["images"] == COUNT
    assert sorted(path.name for path in photos.rglob("*") if path.is_file()) == sorted(
        f"{n:04}.jpg" for n in range(COUNT)
    )
