"""How captions are chosen: the options of the decoding, and the label by which an output remembers them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, TypedDict
from urllib.parse import quote_plus, unquote_plus

from batchcap.options.field import (
    CAPTIONS,
    SAMPLING,
    WORDS,
    Option,
    OptionField,
    check_ranges,
    fields_of,
    require,
    take_types,
)

Search = Literal["beam", "greedy", "sample", "im2txt"]
Style = Literal["raw", "sentence"]

_SAMPLING: Final = ("temperature", "top_k", "top_p", "seed")
# Part of every label. Raised when the same options find other captions, so that an output never mixes the two.
# 2: after `max_length` words only ends are candidates; greedy is the most probable token whatever the penalty.
_SEARCH_VERSION: Final = 2
_IN_HEAD: Final = frozenset(("search", "beam_size", "length_penalty"))
_LONGEST_IN_LABEL: Final = 80
_LABEL: Final = re.compile(r"(beam|greedy|sample|im2txt)(\d*)-lp([^;#]+)((?:;[a-z_]+=[^;#]*)*)#[0-9a-f]{8}")
_MODEL: Final = "the model's"
_SEEDS: Final = "from 0 to 2 ** 64 - 1"


def has_beam(search: Search) -> bool:
    """Whether a search follows several hypotheses, so that ``beam_size`` means something."""
    return search in ("beam", "im2txt")


def largest_penalty(search: Search) -> float:
    """The largest ``length_penalty`` of a search.

    The Show and Tell code has no limit, and its own tests use 3. At 10, length alone decides between captions.
    """
    return 10.0 if search == "im2txt" else 2.0


BeamSizeOption: TypeAlias = Annotated[
    int,
    Option(
        "Unfinished captions (hypotheses) that the search keeps at each step.",
        low=1,
        high=256,
        unset=_MODEL,
        panel=CAPTIONS,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingOptions:
    """How captions are chosen. Every field can change text, so every field is part of `label`.

    A command line gives None where nothing was chosen: `Decoding`.
    """

    search: Annotated[Search, Option("How captions are found.", unset=_MODEL, panel=CAPTIONS)] = "beam"
    """``beam``; ``greedy``: the most probable word at each step; ``sample``: drawn word by word; ``im2txt``: as the
    Show and Tell code."""
    beam_size: BeamSizeOption = 3
    """Living hypotheses an image."""
    num_captions: Annotated[
        int,
        Option(
            "Captions an image, best first. A beam gives at most --beam-size of them.",
            low=1,
            high=256,
            valid="at least 1 and at most 256",
        ),
    ] = 1
    """At most ``beam_size``. Samples: how many are drawn."""
    max_length: Annotated[int, Option("Most words of a caption.", low=1, high=1000, unset=_MODEL, panel=CAPTIONS)] = 20
    """Most tokens of a caption, without ``<end>``; with it in the search of the Show and Tell code."""
    length_penalty: Annotated[
        float,
        Option(
            "0 favours short captions, 1 is fair to long ones.",
            valid="from 0 to 2; with --search im2txt to 10",
            unset=_MODEL,
            panel=CAPTIONS,
        ),
    ] = 0.7
    """A hypothesis of n tokens scores log_prob / n ** length_penalty: 0 favours short captions, 1 is the mean."""
    min_length: Annotated[int, Option("Fewest words of a caption.", low=0, panel=CAPTIONS)] = 0
    """Fewest tokens of a caption, without ``<end>``."""
    ban: Annotated[
        tuple[str, ...],
        Option("A word that no caption may hold. Repeatable.", panel=WORDS, metavar="WORD"),
    ] = ()
    """Kept sorted, each once."""
    allow_unknown: Annotated[
        bool,
        Option(
            "Captions may hold the token for words that the model does not know, and with --search im2txt "
            "the start token.",
            panel=WORDS,
        ),
    ] = False
    """The token for words that the model does not know is allowed; in the search of the Show and Tell code, which
    forbids nothing, the start token too."""
    no_repeat_ngram: Annotated[
        int,
        Option("No N words in a row may come twice in a caption.", low=0, unset="they may", panel=WORDS, metavar="N"),
    ] = 0
    """No caption holds the same row of that many tokens twice; 0: it may."""
    prefix: Annotated[
        str, Option('First words of every caption, such as "a photo of".', panel=WORDS, metavar="WORDS")
    ] = ""
    """With a space between."""
    temperature: Annotated[
        float, Option("Sampling: below 1, likely words become more likely.", low=0.01, high=100, panel=SAMPLING)
    ] = 1.0
    """Log-probabilities are divided by it."""
    top_k: Annotated[int, Option("Sampling: draw from the K best words.", low=0, unset="all", panel=SAMPLING)] = 0
    """0: all."""
    top_p: Annotated[
        float,
        Option(
            "Sampling: draw from the most probable words that together have this probability.",
            above=0,
            high=1,
            panel=SAMPLING,
        ),
    ] = 1.0
    seed: Annotated[
        int,
        Option(
            "Sampling: another seed, other captions.",
            low=0,
            valid=_SEEDS,
            panel=SAMPLING,
        ),
    ] = 0
    """With an image's name it decides what is drawn."""
    style: Annotated[
        Style, Option("How captions are written. sentence: with a capital letter and a full stop.", panel=WORDS)
    ] = "raw"
    """``raw`` as the model says them; ``sentence``: with a capital and a full stop."""

    def __post_init__(self) -> None:
        take_types(self)
        object.__setattr__(self, "ban", tuple(sorted(set(self.ban))))
        object.__setattr__(self, "prefix", " ".join(self.prefix.split()))
        self._check_sampling()
        check_ranges(self)
        require(self.seed < 2**64, f"--seed {self.seed}: must be {_SEEDS}.")
        self._check_beam()
        self._check_length()

    def _check_sampling(self) -> None:
        for field in fields_of(DecodingOptions):
            if field.field in _SAMPLING and self.search != "sample":
                value = getattr(self, field.field)
                require(
                    value == field.default,
                    f"{field.flag} {value} goes with --search sample, and this is {self.search} search.",
                    f"Add --search sample, or leave {field.flag} out.",
                )

    def _check_beam(self) -> None:
        require(
            has_beam(self.search) or self.beam_size == 1,
            f"--beam-size {self.beam_size} goes with --search beam.",
            "Greedy search has one beam: leave --beam-size out."
            if self.search == "greedy"
            else "Sampling has no beam: leave --beam-size out.",
        )
        require(
            self.search != "greedy" or self.num_captions == 1,
            f"--num-captions {self.num_captions}: greedy search finds one caption.",
            "Use --search beam, or sample.",
        )
        require(
            self.search == "sample" or self.num_captions <= self.beam_size,
            f"--num-captions {self.num_captions} is more than --beam-size {self.beam_size}.",
            f"Raise the beam: --beam-size {self.num_captions}.",
        )

    def _check_length(self) -> None:
        require(
            0.0 <= self.length_penalty <= largest_penalty(self.search),
            f"--length-penalty {self.length_penalty}: must be from 0 to {largest_penalty(self.search):g}.",
        )
        require(
            self.min_length <= self.max_length,
            f"--min-length {self.min_length} is more than --max-length {self.max_length}.",
            f"Raise the other: --max-length {self.min_length}.",
        )
        first = len(self.prefix.split())
        require(
            first <= self.max_length,
            f"--prefix {self.prefix!r} has {first} words, more than --max-length {self.max_length}.",
            f"Raise it: --max-length {first + 10}.",
        )

    @property
    def label(self) -> str:
        """``beam3-lp0.7;max_length=16#5c1e9a02``: what differs from the defaults, and 8 hex digits over every option.

        `explain_label` reads it. The digits are of SHA-256, and change with `_SEARCH_VERSION` too.
        """
        import msgspec  # not needed by the help of a command, which reads this file too

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
    """Every option that a decoding label names, as the command line names it, defaults included; see `label`.

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


class Decoding(TypedDict, total=False):
    """What was chosen of `DecodingOptions`, which explains each; None, or nothing, is the bundle's own default."""

    search: Search | None
    """Where only a beam is chosen, never a search without one."""
    beam_size: int | None
    num_captions: int | None
    max_length: int | None
    length_penalty: float | None
    min_length: int | None
    ban: Sequence[str] | None
    ban_file: Annotated[Path | None, Option("A file of words to ban, one a line.", panel=WORDS, metavar="FILE")]
    """More words to ban."""
    allow_unknown: bool | None
    no_repeat_ngram: int | None
    prefix: str | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    seed: int | None
    style: Style | None


def chosen_fields() -> tuple[OptionField, ...]:
    """The options of `Decoding`, as `DecodingOptions` describes them, and those that stand in `Decoding` alone."""
    described = {field.field: field for options in (DecodingOptions, Decoding) for field in fields_of(options)}
    return tuple(described[name] for name in Decoding.__annotations__)
