"""The wheel holds what it must, and the project's files agree with each other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import BytesHeaderParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from paths import ROOT

from batchcap import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAX_BYTES = 25_000_000


def build(kind: str, folder: Path) -> Path:
    """Build the ``wheel`` or ``sdist`` of this working tree."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    path = build("wheel", tmp_path_factory.mktemp("wheel"))
    assert path.stat().st_size < MAX_BYTES
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_wheel_holds_both_packages(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for folder, package in ((ROOT, "batchcap"), (ROOT / "export", "batchcap_export")):
        modules = {path.relative_to(folder).as_posix() for path in (folder / package).rglob("*.py")}
        assert len(modules) > 5
        assert modules <= names
    assert "batchcap/py.typed" in names


def test_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"batchcap", "batchcap_export", f"batchcap-{__version__}.dist-info"}


def test_wheel_holds_the_embedded_bundle(wheel: zipfile.ZipFile) -> None:
    folder = ROOT / "batchcap" / "models" / "flickr8k-small"
    files = {path.name for path in folder.iterdir()}
    assert {"bundle.json", "encoder.onnx", "decoder.onnx", "vocabulary.txt", "MODEL_CARD.md"} <= files
    for name in files:
        assert wheel.read(f"batchcap/models/flickr8k-small/{name}") == (folder / name).read_bytes()


def test_wheel_says_how_to_start_it(wheel: zipfile.ZipFile) -> None:
    info = f"batchcap-{__version__}.dist-info"
    assert "batchcap = batchcap.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert f"Version: {__version__}\n" in metadata


def test_wheel_says_under_which_terms_code_and_weights_are(wheel: zipfile.ZipFile) -> None:
    info = f"batchcap-{__version__}.dist-info"
    metadata = BytesHeaderParser().parsebytes(wheel.read(f"{info}/METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0 AND LicenseRef-flickr8k-small"
    files = {name: wheel.read(f"{info}/licenses/{name}").decode() for name in metadata.get_all("License-File")}
    assert set(files) == {"LICENSE", "LICENSES/LicenseRef-flickr8k-small.txt"}
    assert "Apache License" in files["LICENSE"]
    provenance = json.loads(wheel.read("batchcap/models/flickr8k-small/bundle.json"))["provenance"]
    for said in (provenance["terms"], provenance["data"], "batchcap/models/flickr8k-small/"):
        assert said in files["LICENSES/LicenseRef-flickr8k-small.txt"]
    assert "non-commercial" in provenance["terms"]


def test_wheel_describes_itself_without_the_repository(wheel: zipfile.ZipFile) -> None:
    """Where only the description is shown there are no files beside it, and headings are no targets of links."""
    metadata = BytesHeaderParser().parsebytes(wheel.read(f"batchcap-{__version__}.dist-info/METADATA"))
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload()
    tokens = MarkdownIt("commonmark").parse(text)
    parts = [part for token in tokens for part in token.children or ()]
    targets = [part.attrs.get("href") or part.attrs.get("src") for part in parts if part.type in ("link_open", "image")]
    assert [target for target in targets if "://" not in str(target)] == []
    assert "<img" not in text
    assert (ROOT / "examples" / "run.txt").read_text() in text
    for kept in ("# batchcap", "## Two commands", "docs/captioning.md", "non-commercial"):
        assert kept in text


def test_source_archive_holds_the_pages_and_what_they_lead_to(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for page in [*pages, *(ROOT / "docs").glob("*.md")]:
        targets = re.findall(r"\]\(((?!https?://)[^)#]+)", page.read_text("utf-8"))
        for file in (page, *(page.parent / target for target in targets)):
            assert file.resolve().relative_to(ROOT).as_posix() in names


def requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(text) for text in [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]]


@pytest.mark.parametrize(
    ("system", "machine", "with_cuda"),
    [
        ("linux", "x86_64", "onnxruntime-gpu"),
        ("win32", "AMD64", "onnxruntime-gpu"),
        ("linux", "aarch64", "onnxruntime"),
        ("darwin", "arm64", "onnxruntime"),
        ("win32", "ARM64", "onnxruntime"),
    ],
)
def test_one_extra_brings_one_build_of_onnxruntime(system: str, machine: str, with_cuda: str) -> None:
    environment = {"sys_platform": system, "platform_machine": machine}
    extras = PROJECT["optional-dependencies"]
    builds = {}
    for name, listed in {"": PROJECT["dependencies"], **extras}.items():
        chosen = [r.name for r in map(Requirement, listed) if r.marker is None or r.marker.evaluate(environment)]
        builds[name] = [requirement for requirement in chosen if requirement.startswith("onnxruntime")]
    assert (builds.pop("cpu"), builds.pop("gpu"), builds.pop("cuda")) == (["onnxruntime"], [with_cuda], [with_cuda])
    assert not any(builds.values()), "only these three bring one"


def test_constraints_pin_every_requirement_within_its_range() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.+]*", line) for line in lines), "names and versions only"
    pinned = {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}
    for requirement in requirements():
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_the_check_of_requirements_finds_what_nothing_imports(tmp_path: Path) -> None:
    settings = (ROOT / "pyproject.toml").read_text()
    config = tmp_path / "pyproject.toml"
    config.write_text(re.sub('(    "simplejpeg.*)', r'\1 "opencv-python-headless>=4",', settings))
    command = [sys.executable, "-m", "deptry", "--no-ansi", "--config", str(config), "batchcap", "export"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert "DEP002 'opencv-python-headless'" in done.stderr
    config.write_text(re.sub('    "simplejpeg.*', "", settings))
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert "'simplejpeg' imported but" in done.stderr
