"""Bundles as files: portable, the same from every process, compared with their origin, and never half written."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from paths import TESTS
from PIL import Image
from typer.testing import CliRunner, Result

pytest.importorskip("tensorflow", reason="the export extra is not installed")

from batchcap.bundle.bundle import open_bundle
from batchcap.cli.app import app
from batchcap.errors import OutputError
from batchcap_export.importers.sources import open_source
from batchcap_export.options.bundles import BundleOptions
from batchcap_export.options.importing import ImportOptions
from batchcap_export.packaging.bundling import export_model
from batchcap_export.system.staging import staging_folder

SOURCE = TESTS / "tiny_captioner.py"
FILES = {"MODEL_CARD.md", "bundle.json", "vocabulary.txt"} | {
    f"{graph}{precision}.onnx" for graph in ("encoder", "decoder", "select") for precision in ("", ".fp16", ".int8")
}
USER = "somebody-unusual"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 images of soft coloured patches."""
    return write_images(tmp_path_factory.mktemp("photos"), 2)


def write_images(folder: Path, seed: int) -> Path:
    random = np.random.default_rng(seed)
    for index in range(64):
        patches = random.integers(0, 256, (random.integers(2, 6), random.integers(2, 6), 3)).astype(np.uint8)
        image = Image.fromarray(patches).resize((80, 60), Image.Resampling.BICUBIC)
        image.save(folder / f"{index:02}.png")
    return folder


@pytest.fixture(scope="module")
def exported(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same captioner, exported by two processes that have as little in common as can be arranged."""
    calibration = write_images(tmp_path_factory.mktemp("calibration"), 3)
    more = ["--precision", "fp16", "--precision", "int8", "--calibrate", str(calibration), "--force"]
    folders = (tmp_path_factory.mktemp("first-place"), tmp_path_factory.mktemp("second-place"))
    running = []
    for index, folder in enumerate(folders):
        shutil.copy(SOURCE, folder / "source.py")
        command = [sys.executable, "-m", "batchcap", "export", folder / "source.py", "-o", folder / "made"]
        own = {"PYTHONHASHSEED": str(index + 1), "LOGNAME": USER, "USER": USER, "TZ": ("UTC", "Asia/Tokyo")[index]}
        inherited = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        running.append(
            subprocess.Popen(
                [*map(str, command), "--images", str(photos), *more],
                cwd=folder,
                env={**os.environ, **inherited, **own},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for process in running:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "64 of 64 captions identical" in out
    return folders[0] / "made", folders[1] / "made"


def verify(bundle: Path, *more: object) -> Result:
    return CliRunner().invoke(app, ["verify", str(bundle), *map(str, more)], env={"COLUMNS": "200", "NO_COLOR": "1"})


# What is in the files


def test_two_processes_write_the_same_bytes(exported: tuple[Path, Path]) -> None:
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in exported)
    assert one.keys() == FILES
    assert one == two


def test_no_file_says_where_when_or_by_whom_it_was_made(exported: tuple[Path, Path], photos: Path) -> None:
    today = time.localtime()
    seconds = str(int(time.time()))[:7]
    secrets = [USER, seconds, *(time.strftime(form, today) for form in ("%Y-%m-%d", "%Y%m%d", "%d %b %Y", "%b %d"))]
    for folder in (*(bundle.parent for bundle in exported), photos, SOURCE.parent, Path.home(), Path(sys.prefix)):
        secrets += [str(folder), folder.name] if len(folder.name) > 6 else [str(folder)]
    secrets += [name for name in (socket.gethostname(),) if len(name) > 3]
    for path in exported[0].iterdir():
        content = path.read_bytes()
        found = [secret for secret in secrets for form in ("utf-8", "utf-16-le") if secret.encode(form) in content]
        assert found == [], path.name


def test_a_moved_bundle_is_the_same_bundle(exported: tuple[Path, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported[0], tmp_path / "elsewhere"))
    assert open_bundle(copy).label == open_bundle(exported[0]).label
    done = verify(copy)
    assert done.exit_code == 0, done.output


# Beside its origin


def test_the_origin_says_the_same(exported: tuple[Path, Path], photos: Path) -> None:
    done = verify(exported[0], "--images", photos, "--origin", SOURCE)
    assert done.exit_code == 0, done.output
    assert "the same words, special tokens and pixels" in done.stdout
    assert "64 of 64 captions identical" in done.stdout
    assert done.stdout.endswith("All holds.\n")


@pytest.mark.parametrize(
    ("function", "name", "told"),
    [
        ("retrained", "parity", "differs by"),
        ("larger", "origin", "the bundle has 44 words, the origin 45"),
    ],
)
def test_another_origin_is_told_apart(
    exported: tuple[Path, Path], photos: Path, function: str, name: str, told: str
) -> None:
    done = verify(exported[0], "--images", photos, "--origin", f"{SOURCE}:{function}")
    assert done.exit_code == 1
    assert f"FAILED {name} " in done.stdout
    assert told in done.stdout
    assert done.stdout.endswith(f"1 check failed: {name}.\n")


def test_what_an_origin_needs(exported: tuple[Path, Path], photos: Path, tmp_path: Path) -> None:
    done = verify(exported[0], "--origin", tmp_path / "nowhere", "--images", photos)
    assert done.exit_code == 1
    assert "nowhere: no such file or folder" in done.stderr
    done = verify(exported[0], "--origin", SOURCE)
    assert done.exit_code == 1
    assert "needs 64 images, not 0" in done.stderr
    assert "--images" in done.stderr


# Never half written


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to write beyond ``size`` bytes of any file; Python ignores the signal that comes with it."""
    resource = pytest.importorskip("resource", reason="this system has no limits of this kind")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [100, 18_000])
def test_a_disk_that_is_full_leaves_nothing(photos: Path, tmp_path: Path, size: int) -> None:
    """In the middle of the first graph, and in its last bytes."""
    model = open_source(str(SOURCE), ImportOptions())
    files = sorted(photos.iterdir())
    with largest_file(size), pytest.raises(OutputError) as caught:
        export_model(model, tmp_path / "made", BundleOptions(name="made"), files, lambda _: None)
    assert caught.value.message == f"{tmp_path / 'made'}: cannot be written: {os.strerror(errno.EFBIG)}."
    assert caught.value.fix.startswith("Make room there, or name a folder on another disk.")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from batchcap_export.system.staging import staging_folder

with staging_folder(Path(sys.argv[1]), print) as shop:
    (shop / "encoder.onnx").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no process can be killed in this way here")
def test_a_killed_export_leaves_a_hidden_folder_alone(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "made"], check=False, env=environment)
        assert killed.returncode == -signal.SIGKILL
    left = sorted(tmp_path.iterdir())
    assert len(left) == 2
    assert all(folder.name.startswith(".made-") for folder in left)
    said: list[str] = []
    with staging_folder(tmp_path / "made", said.append) as shop:
        (shop / "bundle").mkdir()
        (shop / "bundle").rename(tmp_path / "made")
    # Whose they are cannot be known: they are named, not touched.
    assert [line.split(": ")[0] for line in said] == [str(folder) for folder in left]
    assert sorted(tmp_path.iterdir()) == [*left, tmp_path / "made"]
    with staging_folder(tmp_path / "other", said.append):
        pass
    assert len(said) == 2
