"""What `train` and `export` show in the terminal: their own lines, what matters of TensorFlow's, and nothing else."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from colours import write_colours
from paths import ROOT

from batchcap_export.system import stderr_filter

pytest.importorskip("tensorflow", reason="the export extra is not installed")
pytest.importorskip("pycocoevalcap", reason="the eval extra is not installed")

NOISE = [
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    b"I0000 00:00:1795275170.635373    8487 port.cc:153] oneDNN custom operations are on. You may see slightly ...",
    b"W0000 00:00:1795275170.635373    8487 gpu_device.cc:2342] Cannot dlopen some GPU libraries.",
    b"Skipping registering GPU devices...",
    b"E0000 00:00:1732.0 12 cuda_fft.cc:477] Unable to register cuFFT factory: Attempting to register factory for ...",
    b"E0000 00:00:1732.0 12 cuda_platform.cc:51] failed call to cuInit: INTERNAL: CUDA error: Failed call to cuInit",
    b"2026-11-21 15:00:00.123456: I tensorflow/core/platform/cpu_feature_guard.cc:210] This TensorFlow binary is ...",
    b"To enable the following instructions: AVX2 AVX512F FMA, in other operations, rebuild TensorFlow with ...",
]
REAL = [
    b"E0000 00:00:1732.0 12 gpu_device.cc:99] out of memory",
    b"F0000 00:00:1732.0 12 cpu_feature_guard.cc:32] The TensorFlow library was compiled to use AVX instructions.",
    b"2026-11-21 15:00:00.123456: E tensorflow/core/x.cc:1] Something broke",
    b"terminate called after throwing an instance of 'std::bad_alloc'",
    b"Traceback (most recent call last):",
    b"",
]


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # As a machine without any such setting has it.
    for name in ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        environment.pop(name, None)
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_noise_is_told_from_what_matters() -> None:
    out = io.BytesIO()
    lines = [line for pair in zip(NOISE, REAL * 2, strict=False) for line in pair]
    stderr_filter.copy(io.BytesIO(b"\n".join(lines) + b"\nno end"), out)
    assert out.getvalue().splitlines() == [*(REAL * 2)[: len(NOISE)], b"no end"]


ABORTED = """
import os, sys
from batchcap_export.system.stderr_filter import without_noise

with without_noise():
    os.write(2, b"I0000 00:00:1732.0 12 port.cc:153] noise\\n")
    print("of Python", file=sys.stderr)
    os.write(2, b"F0000 00:00:1732.0 12 x.cc:1] the last words")
    if len(sys.argv) > 1:
        os.abort()
    raise KeyError("raised")
"""


def test_the_last_words_of_a_library_that_aborts_are_shown(tmp_path: Path) -> None:
    aborted = run("-c", ABORTED, "abort", cwd=tmp_path)
    assert aborted.returncode == -signal.SIGABRT
    assert "the last words" in aborted.stderr
    raised = run("-c", ABORTED, cwd=tmp_path)
    assert raised.returncode == 1
    assert "noise" not in aborted.stderr + raised.stderr
    # In this order: what the library wrote is there before the error is shown.
    assert re.fullmatch(r"(?s)of Python\n.*the last wordsTraceback.*KeyError: 'raised'\n", raised.stderr)


OWN = re.compile(
    r"warning: --weights random: .*|features of small, (train|dev)-features: \d+ of \d+|"
    r"epoch ([123]) of 3: loss \d+\.\d{3}, dev loss \d+\.\d{3}(, the lowest so far)?, \d+ s|"
    r"warning: \d+ of 12 captions are empty: .*"
)


def test_a_training_says_its_own_lines_only_and_counts_its_epochs(tmp_path: Path) -> None:
    write_colours(tmp_path)
    command = ["-m", "batchcap", "train", "images", "--captions", "captions.txt", "--train-split", "train.txt"]
    command += ["--dev-split", "dev.txt", "-o", "runs/deep/one", "--weights", "random", "--units", "16"]
    command += ["--min-count", "1", "--batch-size", "16", "--epochs", "3"]
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert [line for line in lines if not OWN.fullmatch(line)] == []
    assert [line.split(":")[0] for line in lines if line.startswith("epoch")] == [f"epoch {n} of 3" for n in (1, 2, 3)]
    assert done.stdout.count("\n") == 2
    assert "CIDEr" in done.stdout
    loud = run(*command, "-v", cwd=tmp_path)
    assert loud.returncode == 0, loud.stderr
    assert "all 3 epochs are done" in loud.stderr
    assert "oneDNN" in loud.stderr


LATER = """
import os, signal, sys, threading, time
from pathlib import Path
from batchcap import __main__

def stop_at(file):  # a signal from outside, when training has come so far
    while not list(Path().glob(file)):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=stop_at, args=(sys.argv.pop(1),), daemon=True).start()
__main__.main()
"""


def test_sigterm_ends_a_training_and_an_export_as_ctrl_c_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_colours(tmp_path, count=80)
    for name in ("HOME", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # as a user has it
    train = ["train", "images", "--captions", "captions.txt", "--train-split", "train.txt", "--dev-split", "dev.txt"]
    train += ["-o", "runs/one", "--weights", "random", "--units", "16", "--min-count", "1", "--epochs", "500"]
    done = run("-c", LATER, "runs/one/history.json", *train, "--patience", "500", cwd=tmp_path)
    assert done.returncode == 143, done.stderr
    assert done.stderr.endswith("Stopped: the same command goes on with what is done in runs/one.\n")
    tutorial = ROOT / "examples" / "custom_captioner.py"
    export = ["export", tutorial, "-o", "bundles/one", "--images", "images"]
    done = run("-c", LATER, "bundles/.one-*", *export, cwd=tmp_path)
    assert done.returncode == 143, done.stderr
    assert done.stderr.endswith("Stopped: no bundle was made, and nothing of it is left.\n")
    assert not (tmp_path / "bundles").exists()
    assert [list((tmp_path / name).iterdir()) for name in ("HOME", "TMPDIR")] == [[], []]
