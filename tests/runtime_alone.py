"""Captions images where only the wheel's own dependencies are installed: `make alone` runs this in a clean environment.

Not a pytest file: pytest is not installed there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

FORBIDDEN = ("tensorflow", "keras", "tf2onnx", "onnx", "pytest")


def main() -> None:
    """Check that the export stage's needs are absent, then run the installed command twice."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="flickr8k-small")
    model = parser.parse_args().model
    present = [name for name in FORBIDDEN if importlib.util.find_spec(name) is not None]
    if present:
        raise SystemExit(f"this environment is not clean: {present}")
    command = Path(sys.executable).parent / "batchcap"
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        for seed in range(3):
            levels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
            Image.fromarray(levels).resize((500, 375)).save(photos / f"{seed}.jpg")
        run = [command, "run", photos, "-o", Path(folder) / "captions.jsonl", "--model", model]
        subprocess.run(run, check=True, cwd=folder)
        again = subprocess.run(run, check=True, cwd=folder, capture_output=True, text=True).stderr
        lines = (Path(folder) / "captions.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    if [record["path"] for record in records] != ["0.jpg", "1.jpg", "2.jpg"] or not all(
        "caption" in r for r in records
    ):
        raise SystemExit(f"not three captions: {records}")
    if "Nothing new" not in again:
        raise SystemExit(f"the second run did not find its own work: {again}")
    subprocess.run([command, "verify", model], check=True)
    origin = subprocess.run([command, "verify", model, "--origin", "x"], check=False, capture_output=True, text=True)
    if origin.returncode != 1 or "batchcap[export" not in origin.stderr:
        raise SystemExit(f"verify --origin did not say which extra it needs: {origin}")
    export = subprocess.run([command, "export", "x", "-o", "y"], check=False, capture_output=True, text=True)
    if export.returncode != 1 or "batchcap[export" not in export.stderr:
        raise SystemExit(f"export did not say which extra it needs: {export}")
    print("The runtime works on its own, without TensorFlow.")


if __name__ == "__main__":
    main()
