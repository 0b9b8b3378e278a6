"""What a person can choose, frozen, and checked in this one place when made."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote_plus, unquote_plus

import msgspec

from batchcap.errors import OptionError
from batchcap.options.types import checked, hints

Format = Literal["jsonl", "csv"]
OnMismatch = Literal["stop", "recaption", "keep"]
Search = Literal["beam", "greedy", "sample", "im2txt"]
Precision = Literal["fp32", "fp16", "int8"]
VariantName = Literal["fp16", "int8"]
WantedPrecision = Literal["auto", "fp32", "fp16", "int8"]
Style = Literal["raw", "sentence"]

_FORMATS: Final[dict[str, Format]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
LIMITS: Final = {
    "batch_size": (1, 4096),
    "workers": (0, 256),
    "beam_size": (1, 256),
    "num_captions": (1, 256),
    "max_length": (1, 1000),
}
"""The least and the most of options that are whole numbers."""
_MOST_THREADS: Final = 1024
_SAMPLING: Final = ("temperature", "top_k", "top_p", "seed")
# Part of every label. Raised when the same options find other captions, so that an output never mixes the two.
# 2: after `max_length` words only ends are candidates; greedy is the most probable token whatever the penalty.
_SEARCH_VERSION: Final = 2
_IN_HEAD: Final = frozenset(("search", "beam_size", "length_penalty"))
_LONGEST_IN_LABEL: Final = 80
_LABEL: Final = re.compile(r"(beam|greedy|sample|im2txt)(\d*)-lp([^;#]+)((?:;[a-z_]+=[^;#]*)*)#[0-9a-f]{8}")


def usable_cores() -> int:
    """Cores this process may run on: what 0 workers or threads mean. A container's quota of time is not seen."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _require(condition: bool, message: str, fix: str = "") -> None:
    if not condition:
        raise OptionError(message, fix)


def check_types(options: type, given: Mapping[str, object]) -> dict[str, Any]:
    """What was given for fields of ``options``, each in the type of its field.

    Raises:
        OptionError: a value is of another type; see `types.checked`.
    """
    return {name: checked(name, value, hints(options)[name], _valid(name)) for name, value in given.items()}


def _valid(name: str) -> str:
    """What is valid, where the annotation does not say all."""
    if name == "device":
        return "auto, cpu, cuda or cuda:N"
    return "a whole number from {} to {}".format(*LIMITS[name]) if name in LIMITS else ""


def _take_types(options: DecodingOptions | RunOptions) -> None:
    given = {field.name: getattr(options, field.name) for field in fields(options)}
    for name, value in check_types(type(options), given).items():
        object.__setattr__(options, name, value)


def _require_limits(name: str, value: int, zero: str = "") -> None:
    low, high = LIMITS[name]
    option = f"--{name.replace('_', '-')} {value}"
    _require(low <= value <= high, f"{option}: must be from {low}{zero} to {high}.")


def check_precision(precision: str) -> None:
    """Raise OptionError for a precision that no bundle has."""
    checked("precision", precision, WantedPrecision)


def has_beam(search: Search) -> bool:
    """Whether a search follows several hypotheses, so that ``beam_size`` means something."""
    return search in ("beam", "im2txt")


def largest_penalty(search: Search) -> float:
    """The largest ``length_penalty`` of a search.

    The Show and Tell code has no limit, and its own tests use 3; at 10 the length has long decided alone.
    """
    return 10.0 if search == "im2txt" else 2.0


def check_batch_size(batch_size: int) -> int:
    """The size as Python has it; raise OptionError for a batch that no model takes."""
    plain: int = checked("batch_size", batch_size, int, _valid("batch_size"))
    _require_limits("batch_size", plain)
    return plain


def check_threads(threads: int) -> int:
    """The number as Python has it; raise OptionError for one that no machine has: each thread would be made."""
    valid = f"from 1 to {_MOST_THREADS}, or 0 for one a core"
    plain: int = checked("threads", threads, int, valid)
    _require(0 <= plain <= _MOST_THREADS, f"threads={plain}: must be {valid}.")
    return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingOptions:
    """How captions are chosen. Every field can change text, so every field is part of `label`."""

    search: Search = "beam"
    """``beam``; ``greedy``: the most probable word at each step; ``sample``: drawn word by word; ``im2txt``: as the
    Show and Tell code."""
    beam_size: int = 3
    """Living hypotheses an image."""
    num_captions: int = 1
    """How many captions an image gets, best first; at most ``beam_size``. Samples: how many are drawn."""
    max_length: int = 20
    """Most tokens of a caption, without ``<end>``; with it in the search of the Show and Tell code."""
    length_penalty: float = 0.7
    """A hypothesis of n tokens scores log_prob / n ** length_penalty: 0 favours short captions, 1 is the mean."""
    min_length: int = 0
    """Fewest tokens of a caption, without ``<end>``."""
    ban: tuple[str, ...] = ()
    """Words that no caption holds; kept sorted, each once."""
    allow_unknown: bool = False
    """Captions may hold the token for words that the model does not know; those of the search of the Show and Tell
    code, which forbids nothing, the start token too."""
    no_repeat_ngram: int = 0
    """No caption holds the same row of that many tokens twice; 0: it may."""
    prefix: str = ""
    """The first words of every caption, with a space between."""
    temperature: float = 1.0
    """Of sampling: log-probabilities are divided by it; below 1 the likely become likelier."""
    top_k: int = 0
    """Of sampling: only that many best tokens may be drawn; 0: all."""
    top_p: float = 1.0
    """Of sampling: only the fewest best tokens that together have this probability may be drawn."""
    seed: int = 0
    """Of sampling: with a picture's name it decides what is drawn."""
    style: Style = "raw"
    """How captions are written: ``raw`` as the model says them; ``sentence``: with a capital and a full stop."""

    def __post_init__(self) -> None:
        _take_types(self)
        object.__setattr__(self, "ban", tuple(sorted(set(self.ban))))
        object.__setattr__(self, "prefix", " ".join(self.prefix.split()))
        self._check_sampling()
        _require_limits("beam_size", self.beam_size)
        _require(
            has_beam(self.search) or self.beam_size == 1,
            f"--beam-size {self.beam_size} goes with --search beam.",
            "Greedy search has one beam: leave --beam-size out."
            if self.search == "greedy"
            else "Sampling has no beam: leave --beam-size out.",
        )
        _require(self.num_captions >= 1, f"--num-captions {self.num_captions}: must be at least 1.")
        _require(
            self.search != "greedy" or self.num_captions == 1,
            f"--num-captions {self.num_captions}: greedy search finds one caption.",
            "Use --search beam, or sample.",
        )
        most = LIMITS["num_captions"][1]
        _require(self.num_captions <= most, f"--num-captions {self.num_captions}: must be at most {most}.")
        _require(
            self.search == "sample" or self.num_captions <= self.beam_size,
            f"--num-captions {self.num_captions} is more than --beam-size {self.beam_size}.",
            f"Raise the beam: --beam-size {self.num_captions}.",
        )
        _require_limits("max_length", self.max_length)
        _require(
            0.0 <= self.length_penalty <= largest_penalty(self.search),
            f"--length-penalty {self.length_penalty}: must be from 0 to {largest_penalty(self.search):g}.",
        )
        _require(self.min_length >= 0, f"--min-length {self.min_length}: must be at least 0.")
        _require(
            self.min_length <= self.max_length,
            f"--min-length {self.min_length} is more than --max-length {self.max_length}.",
            f"Raise the other: --max-length {self.min_length}.",
        )
        _require(self.no_repeat_ngram >= 0, f"--no-repeat-ngram {self.no_repeat_ngram}: must be at least 0.")
        first = len(self.prefix.split())
        _require(
            first <= self.max_length,
            f"--prefix {self.prefix!r} has {first} words, more than --max-length {self.max_length}.",
            f"Raise it: --max-length {first + 10}.",
        )

    def _check_sampling(self) -> None:
        for field in fields(self):
            if field.name in _SAMPLING and self.search != "sample":
                value = getattr(self, field.name)
                option = f"--{field.name.replace('_', '-')}"
                _require(
                    value == field.default,
                    f"{option} {value} goes with --search sample, and this is {self.search} search.",
                    f"Add --search sample, or leave {option} out.",
                )
        _require(0.01 <= self.temperature <= 100, f"--temperature {self.temperature}: must be from 0.01 to 100.")
        _require(self.top_k >= 0, f"--top-k {self.top_k}: must be at least 0.")
        _require(0 < self.top_p <= 1, f"--top-p {self.top_p}: must be above 0 and at most 1.")
        _require(0 <= self.seed < 2**64, f"--seed {self.seed}: must be from 0 to 2 ** 64 - 1.")

    @property
    def label(self) -> str:
        """``beam3-lp0.7;max_length=16#5c1e9a02``: what differs from the defaults, and 8 hex digits over every option.

        `explain_label` reads it. The digits are of SHA-256, and change with `_SEARCH_VERSION` too.
        """
        chosen = {f.name: getattr(self, f.name) for f in fields(self)}
        encoded = msgspec.json.encode([_SEARCH_VERSION, sorted(chosen.items())])
        beam = self.beam_size if has_beam(self.search) else ""
        more = [
            f";{f.name}={_label_value(chosen[f.name])}"
            for f in fields(self)
            if f.name not in _IN_HEAD and chosen[f.name] != f.default
        ]
        head = f"{self.search}{beam}-lp{self.length_penalty:g}"
        return f"{head}{''.join(more)}#{hashlib.sha256(encoded).hexdigest()[:8]}"


def _label_value(value: object) -> str:
    """The value of an option on one line without ``;`` and ``#``; of a long one its length and a hash."""
    if isinstance(value, tuple):
        text, size = " ".join(value), f"{len(value)}+words"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        size = f"{len(text)}+characters"
    quoted = quote_plus(text)
    if len(quoted) <= _LONGEST_IN_LABEL:
        return quoted
    return f"{size}+({hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]})"


def explain_label(label: str) -> dict[str, str]:
    """Every option that a decoding label tells of, as the command line names it, defaults included; see `label`.

    A label of another form has no options.
    """
    match = _LABEL.fullmatch(label)
    if match is None:
        return {}
    search, beam, penalty, more = match.groups()
    found = {"search": search, "beam_size": beam or "1", "length_penalty": penalty}
    found |= {name: unquote_plus(value) for name, _, value in (part.partition("=") for part in more.split(";")[1:])}
    told = {f.name: found.get(f.name, _label_text(f.default)) for f in fields(DecodingOptions)}
    return {f"--{name.replace('_', '-')}": value for name, value in told.items()}


def _label_text(default: object) -> str:
    return unquote_plus(_label_value(default)) or "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """One `batchcap run`, without the decoding."""

    inputs: tuple[Path, ...]
    """Folders and files, in the order given."""
    output: Path | None
    """The journal; None streams JSONL to standard output."""
    model: str | Path = "flickr8k-small"
    """Name of an embedded bundle, or the path of a bundle folder."""
    format: Format = "jsonl"
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    precision: WantedPrecision = "auto"
    """Which of the bundle's graphs run; see `captioner.in_precision`."""
    batch_size: int = 32
    """Images that go through the model together. Captions do not depend on it."""
    workers: int = 0
    """Threads that read and decode; 0 chooses by the number of cores."""
    root: Path | None = None
    """Paths in the output are relative to this folder; None: the input if it is one folder alone, else the current
    folder."""
    on_mismatch: OnMismatch = "stop"
    """What to do with an output made with another model, preprocessing or decoding."""
    overwrite: bool = False
    """Start anew; the old output stays until the new one is complete."""
    retry_errors: bool = False
    """Try again the images whose pixels could not be decoded."""
    accept_damaged: bool = False
    """Caption what can be decoded of truncated and damaged images, and mark their records."""
    relocate: bool = False
    """The folder that the output's paths are relative to has moved: write the new one into every record."""
    allow_empty: bool = False
    """No image at all is a success."""
    limit: int | None = None
    """Caption at most this many images in this run; what earlier runs could not read is tried besides."""

    def __post_init__(self) -> None:
        _take_types(self)
        _require(len(self.inputs) > 0, "No input was given.", "Name a folder or an image.")
        check_batch_size(self.batch_size)
        _require_limits("workers", self.workers, zero=" (automatic)")
        _require(self.limit is None or self.limit >= 1, f"--limit {self.limit}: must be at least 1.")
        _require(
            self.output is not None or self.format == "jsonl",
            "-o - streams JSONL.",
            "Leave --format out, or name a file.",
        )
        _require(
            self.output is not None or not self.overwrite,
            "--overwrite has nothing to replace with -o -.",
            "Leave it out.",
        )
        _require(
            not self.relocate or (self.output is not None and not self.overwrite),
            "--relocate changes the records of an output that is there: it does not go with -o - or --overwrite.",
            "Leave it out.",
        )


def parse_output(output: str, format: Format | None = None) -> tuple[Path | None, Format]:
    """The file and its format: ``-`` is standard output (None), and without a format the suffix decides.

    Raises:
        OptionError: it is a folder, or the suffix names no format and none was given.
    """
    if output == "-":
        return None, format or "jsonl"
    _require(bool(output), "-o: the name is empty.", "Name a .jsonl or .csv file, or - for standard output.")
    path = Path(output)
    if os.path.isdir(path):  # noqa: PTH112 - False where it cannot be looked at: the journal explains that
        raise OptionError(f"-o {output}: this is a folder.", f"Name a file in it, such as {path / 'captions.jsonl'}.")
    if format is None and path.suffix.lower() not in _FORMATS:
        ending = f"the ending {path.suffix}" if path.suffix else "a name without an ending"
        raise OptionError(
            f"-o {output}: {ending} does not tell the format.",
            "Name a .jsonl or .csv file, or add --format jsonl or --format csv.",
        )
    return path, format or _FORMATS[path.suffix.lower()]
