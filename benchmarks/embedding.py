"""Captions inside images: what exiftool and Exiv2 keep, what `--embed` costs, and whether a kill loses anything.

    python benchmarks/embedding.py PHOTOS [--images 300] [--kills 40] [-o results.json]

``ways``: images with all that cameras, phones and editors put beside the pixels (`tests/tagged_images.py`) get a
caption from either program; exiftool then says which tags were lost, changed or came along, and the coded pixels are
compared.
``cost``: copies of PHOTOS, captioned by their names, embedded in place, and again when nothing is left to do;
processor seconds include those of exiftool. ``kills``: the same, killed at random moments in which images are moved
into place.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyexiv2
from PIL import Image

from batchcap.convert import exiftool
from batchcap.convert.caption_fields import Fields, reading
from batchcap.convert.packets import look_inside
from batchcap.images.files import look
from batchcap.journal.formats import make_codec
from batchcap.journal.reader import JournalReader
from batchcap.records import Record
from batchcap.tools.machine import machine

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tagged_images import all_kinds, coded_pixels

CAPTION: Final = "two dogs play in the snow"
_IGNORED: Final = ("System:", "ExifTool:", "SourceFile", "File:FileSize", "File:CurrentIPTCDigest")
_PLACES: Final = ("Offset", "Offsets", "ImageStart")


def with_exiftool(file: Path) -> None:
    program = exiftool.find()
    (said,) = exiftool.run(program, [reading(str(file))])
    target = str(file.with_name("new.embed"))
    exiftool.run(program, [Fields.read(said.out).writing(CAPTION, "x-default", str(file), target)])
    Path(target).replace(file)


def with_exiv2(file: Path) -> None:
    with pyexiv2.Image(str(file)) as image:
        exif, iptc = image.read_exif(), image.read_iptc()
        image.modify_xmp({"Xmp.dc.description": {'lang="x-default"': CAPTION}, "Xmp.batchcap.caption": CAPTION})
        if exif:
            image.modify_exif({"Exif.Image.ImageDescription": CAPTION})
        if iptc:
            image.modify_iptc({"Iptc.Application2.Caption": CAPTION})


def tags_of(file: Path) -> dict[str, Any]:
    command = ["exiftool", "-j", "-a", "-G1:4", "-u", "-struct", "-b", "-n", str(file)]
    (tags,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)  # noqa: S603
    return {
        name.replace("Copy1:", ""): value
        for name, value in tags.items()
        if not name.startswith(_IGNORED) and not name.endswith(_PLACES)
    }


def kept(way: Callable[[Path], None]) -> dict[str, Any]:
    """What a program does to each kind of image."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, data in all_kinds().items():
            file = Path(folder) / name
            file.write_bytes(data)
            before, pixels = tags_of(file), coded_pixels(file)
            way(file)
            after = tags_of(file)
            found[name] = {
                "pixels_are_the_same": coded_pixels(file) == pixels,
                "lost": sorted(before.keys() - after.keys()),
                "changed": sorted(tag for tag in before.keys() & after.keys() if before[tag] != after[tag]),
                "came_along": sorted(after.keys() - before.keys()),
                "bytes_more": file.stat().st_size - len(data),
            }
    return found


def prepare(photos: Path, folder: Path, count: int) -> list[Record]:
    """Copies of photos in a new folder, and their records."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = sorted(file for file in photos.iterdir() if file.is_file())
    records = []
    for number in range(count):
        source = names[number % len(names)]
        file = folder / f"{number:06d}{source.suffix}"
        shutil.copyfile(source, file)
        seen = look(str(file))
        made = Record(path=file.name, caption=f"{CAPTION} {number}", log_prob=-13.971, score=-1.795, root=str(folder))
        made = msgspec.structs.replace(made, bytes=seen.size, mtime_us=seen.mtime_us, model="m@1", preprocess="exact")
        records.append(msgspec.structs.replace(made, decoding="beam4#1"))
    return records


def command(journal: Path, folder: Path) -> list[str]:
    return [sys.executable, "-m", "batchcap", "convert", str(journal), str(folder), "--embed", "-q"]


def cost(journal: Path, folder: Path) -> dict[str, float]:
    """Of one conversion, exiftool included."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command(journal, folder), check=True)  # noqa: S603
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"processor_seconds": round(seconds, 2), "wall_seconds": round(wall, 2)}


def decoded(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def same_pixels(photos: Path, folder: Path) -> int:
    """How many images decode to the same pixels as the photos that they are copies of."""
    names = sorted(file for file in photos.iterdir() if file.is_file())
    return sum(
        bool(np.array_equal(decoded(names[number % len(names)]), decoded(file)))
        for number, file in enumerate(sorted(folder.glob("0*")))
    )


def killed(journal: Path, folder: Path, kills: int) -> Iterator[dict[str, int]]:
    """Kill conversions that move images into place; after each: images that are done, or differ from their record."""
    choose = random.Random(0)  # noqa: S311
    for _ in range(kills):
        wanted = lines_of(journal) + choose.randint(1, 64)
        process = subprocess.Popen(command(journal, folder))  # noqa: S603
        while process.poll() is None and lines_of(journal) < wanted:
            time.sleep(0.001)
        time.sleep(choose.uniform(0, 0.01))
        process.kill()
        if process.wait() == 0:  # nothing is left to do
            return
        yield {"done": captioned(folder), "without_their_record": unknown(journal, folder)}


def unknown(journal: Path, folder: Path) -> int:
    """How many images have another size than their record says: the next run would caption them again."""
    sizes = {each.path: each.bytes for each in JournalReader(journal).last_records()}
    return sum(size != (folder / path).stat().st_size for path, size in sizes.items())


def lines_of(journal: Path) -> int:
    return journal.read_bytes().count(b"\n")


def captioned(folder: Path) -> int:
    """How many images hold a caption."""
    return sum(CAPTION.encode() in (look_inside(str(file)).packet or b"") for file in folder.glob("0*"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    pyexiv2.registerNs("urn:batchcap:xmp/1.0/", "batchcap")
    told = subprocess.run([exiftool.find(), "-ver"], capture_output=True, text=True, check=True)  # noqa: S603
    versions = {"exiftool": told.stdout.strip()}
    versions |= {"pyexiv2": pyexiv2.__version__, "exiv2": pyexiv2.__exiv2_version__}
    report: dict[str, Any] = {
        "settings": {"images": options.images, "kills": options.kills, "versions": versions},
        "machine": machine(),
        "ways": {"exiftool": kept(with_exiftool), "exiv2": kept(with_exiv2)},
    }
    with tempfile.TemporaryDirectory() as place:
        folder, journal = Path(place) / "photos", Path(place) / "captions.jsonl"
        for name in ("cost", "kills"):
            journal.write_bytes(make_codec("jsonl").encode(prepare(options.photos, folder, options.images)))
            if name == "kills":
                report[name] = {"after_each": list(killed(journal, folder, options.kills))}
                subprocess.run(command(journal, folder), check=False)  # noqa: S603
            else:
                report[name] = {"new": cost(journal, folder), "again": cost(journal, folder)}
            report[name] |= {"captioned": captioned(folder), "same_pixels": same_pixels(options.photos, folder)}
            report[name] |= {"without_their_record": unknown(journal, folder)}
    text = json.dumps(report, indent=1) + "\n"
    if options.output:
        options.output.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
