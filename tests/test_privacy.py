"""Nothing leaves the machine, and nothing is written but the output: seen from below, in processes of their own."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest
from paths import TESTS
from photos import write_photos
from watched import CAN_WATCH, Seen, watch

import batchcap

pytestmark = pytest.mark.skipif(not CAN_WATCH, reason="system calls are watched on Linux x86-64 only")

PACKAGES = [str(Path(batchcap.__file__).parents[1]), str(Path(batchcap.__file__).parents[1] / "export")]


class Place:
    """A home nobody used before, a folder of temporary files, photos, and a folder for the output."""

    def __init__(self, root: Path) -> None:
        self.home, self.temporary, self.photos, self.output = (root / name for name in ("home", "tmp", "photos", "out"))
        for folder in (self.home, self.temporary, self.output):
            folder.mkdir()
        write_photos(self.photos, 6)

    def python(self, *arguments: str, **more: str) -> Seen:
        """Python with ``arguments``, in the environment of a host that has no objection to telemetry."""
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(PACKAGES),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "ORT_DISABLE_TELEMETRY": "0",
            **more,
        }
        return watch([sys.executable, *arguments], env, self.output)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def assert_quiet(seen: Seen, place: Place, keras: bool = False) -> None:
    """With ``keras``: it looks whether there is IPv6 by a socket of its own, and leaves its folder until the end."""
    assert seen.returncode == 0, seen.stderr
    assert seen.connections == []
    assert not set(seen.sockets) - ({socket.AF_INET6} if keras else set())
    folders = (place.output, place.temporary, *((place.home / ".keras",) if keras else ()))
    assert seen.written_outside(*folders) == []
    assert list(place.home.rglob("*")) == []
    assert list(place.temporary.iterdir()) == [], "temporary files stayed"


def test_the_watcher_is_not_blind(place: Place) -> None:
    """Files that are gone at once, threads, child processes, UDP and TCP."""
    code = """if True:
        import os, pathlib, socket, subprocess, sys, threading
        home = pathlib.Path.home()
        (home / "short").write_text("x"); (home / "short").unlink()
        at = os.open(home, os.O_RDONLY); os.mkdir("folder", dir_fd=at); os.rename(home / "folder", home / "other")
        threading.Thread(target=lambda: (home / "thread").touch()).start()
        subprocess.run([sys.executable, "-c", "open('relative', 'w')"], cwd=home)
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.connect_ex(("127.0.0.1", 9)); udp.sendto(b"x", ("127.0.0.1", 9))
        open(home / "short2", "w").close(); open("/etc/hostname").read(); print("done")
    """
    seen = place.python("-c", code)
    assert (seen.returncode, seen.stdout) == (0, "done\n"), seen.stderr
    names = {str(Path(path).relative_to(place.home)) for path in seen.written_outside(place.output, place.temporary)}
    assert names == {"short", "folder", "other", "thread", "relative", "short2"}
    assert seen.sockets == [socket.AF_INET, socket.AF_INET]
    assert len(seen.connections) == 2


COMMANDS = {
    "run": ("run", "PHOTOS", "-o", "captions.jsonl"),
    "stream": ("run", "PHOTOS", "-o", "-"),
    "verify": ("verify", "BUNDLE", "--images", "PHOTOS"),
    "info": ("info", "BUNDLE"),
    "doctor": ("doctor", "--model", "BUNDLE"),
    "bench": ("bench", "--model", "BUNDLE", "--images", "8", "--repeats", "1", "--json", "bench.json"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_writes_its_output_alone(name: str, place: Place, tiny_bundle: Path) -> None:
    said = {"PHOTOS": str(place.photos), "BUNDLE": str(tiny_bundle)}
    arguments = [said.get(argument, argument) for argument in COMMANDS[name]]
    more = ["--model", str(tiny_bundle)] if arguments[0] == "run" else []
    assert_quiet(place.python("-m", "batchcap", *arguments, *more), place)
    made = {"run": ["captions.jsonl"], "bench": ["bench.json"]}.get(name, [])
    assert [path.name for path in place.output.iterdir()] == made


WAYS_IN = {
    "library": "from batchcap import Captioner; [image] = Captioner.load(MODEL).caption([PHOTO]); image.captions[0]",
    "sessions": "import batchcap.runtime.sessions",
    "submodule": "import batchcap.runtime.captioner",
    "export": "import batchcap_export, onnxruntime",
    "lowering": """if True:
        import numpy, pathlib
        from batchcap_export.convert.lowering import in_int8
        in_int8(pathlib.Path(MODEL) / "encoder.onnx", [{"image": numpy.zeros((2, 8, 8, 3), "uint8")}], 0)
    """,
}


@pytest.mark.parametrize("name", WAYS_IN)
def test_a_program_that_uses_it_is_as_quiet(name: str, place: Place, tiny_bundle: Path) -> None:
    photo = place.photos / "0000.jpg"
    code = WAYS_IN[name].replace("MODEL", repr(str(tiny_bundle))).replace("PHOTO", repr(str(photo)))
    assert_quiet(place.python("-c", code), place, keras=name == "lowering")


def test_export_leaves_a_bundle_and_nothing_else(place: Place) -> None:
    source = str(TESTS / "tiny_captioner.py") + ":captioner"
    write_photos(place.photos, 64)
    arguments = ("export", source, "-o", "bundle", "--images", str(place.photos))
    assert_quiet(place.python("-m", "batchcap", *arguments), place, keras=True)
    assert [path.name for path in place.output.iterdir()] == ["bundle"]


def test_a_keras_folder_that_was_there_stays(place: Place) -> None:
    code = "import batchcap_export, keras"
    (place.home / ".keras").mkdir()
    assert place.python("-c", code).returncode == 0
    assert [path.name for path in (place.home / ".keras").iterdir()] == ["keras.json"]
    (place.home / ".keras" / "keras.json").unlink()
    (place.home / ".keras").rmdir()
    downloaded = f"{code}; import pathlib; (pathlib.Path.home() / '.keras' / 'models').mkdir()"
    assert place.python("-c", downloaded).returncode == 0
    assert (place.home / ".keras" / "models").exists()


@pytest.mark.parametrize("given", [{}, {"ORT_DISABLE_TELEMETRY": "0"}, {"ORT_DISABLE_TELEMETRY": ""}])
def test_only_the_user_allows_telemetry(given: dict[str, str], place: Place) -> None:
    """Told by the variable that onnxruntime reads: with telemetry on, this test would itself send something."""
    code = "import json, os, batchcap; print(json.dumps(os.environ.get('ORT_DISABLE_TELEMETRY')))"
    assert json.loads(place.python("-c", code, **given).stdout) == "1"
    allowed = place.python("-c", code, **given, BATCHCAP_ALLOW_TELEMETRY="1")
    assert json.loads(allowed.stdout) == given.get("ORT_DISABLE_TELEMETRY", "0")


def test_tests_are_quiet_too() -> None:
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
