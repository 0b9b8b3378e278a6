"""Caption a dozen real photographs: `make demo`.

The images ship inside scikit-image. They are copied to ``examples/photos/``, captioned by ``batchcap run`` into
``examples/captions.jsonl``, and the captions shown as a table.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from batchcap.console.tables import show_captions
from batchcap.console.terminal import say
from batchcap.records import Record

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = Path("examples/photos")
CAPTIONS = Path("examples/captions.jsonl")
COMMAND = ("run", str(PHOTOS), "-o", str(CAPTIONS))
NAMES = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "motorcycle_left.png",
    "rocket.jpg",
)


def copy_photos() -> None:
    """Copy the photographs that are not there yet; their dates stay, so a second run has nothing new."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("The demo needs scikit-image's photographs: pip install 'batchcap[demo]'")
    photos = ROOT / PHOTOS
    photos.mkdir(exist_ok=True)
    for name in NAMES:
        if not (photos / name).exists():
            shutil.copy2(Path(spec.origin).parent / "data" / name, photos / name)


def read_captions() -> list[tuple[str, str, float | None]]:
    """File name, caption and log_prob of every photograph; the last record of an image counts."""
    rows = {}
    for line in (ROOT / CAPTIONS).read_bytes().splitlines():
        record = msgspec.json.decode(line, type=Record)
        text = record.caption if record.error is None else f"failed: {record.error.message}"
        rows[record.path] = (text or "", record.log_prob)
    return [(path, *row) for path, row in sorted(rows.items())]


def main() -> None:
    """Copy, caption, show."""
    copy_photos()
    say(f"$ batchcap {' '.join(COMMAND)}")
    done = subprocess.run([sys.executable, "-m", "batchcap", *COMMAND], cwd=ROOT, check=False)  # noqa: S603 - it is ours
    if done.returncode not in {0, 3}:
        raise SystemExit(done.returncode)
    show_captions(read_captions(), str(CAPTIONS))
    say(
        "The embedded model learnt from Flickr8k: 6,000 photos of people and dogs, mostly outdoors. Textures, coins or "
        "space are far from that, and its captions of them show it."
    )
    say("Now with photos of your own: .venv/bin/batchcap run PHOTOS -o captions.jsonl")


if __name__ == "__main__":
    main()
