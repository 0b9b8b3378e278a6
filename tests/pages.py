"""The project's pages as tests read them: blocks of code, code in sentences, links and headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from pathlib import Path
from runpy import run_path
from typing import Any

import typer
from markdown_it import MarkdownIt
from markdown_it.token import Token
from paths import ROOT

from batchcap.cli.app import app

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
TABLES = run_path(str(ROOT / "docs" / "tables.py"))
_COMMENT = re.compile(r"<!-- (.*?) -->")
_OPERATOR = re.compile(r"[|&;<>()]+")
# What may stand before a command: settings of its environment, and a time of cron.
_BEFORE = re.compile(r"[A-Z_]+=.*|[\d*/,-]+")


def page_id(path: Path) -> str:
    """The name of a page in a test's name."""
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code."""

    where: str
    """``captioning.md:12``."""
    language: str
    text: str
    notes: dict[str, str]
    """What the comment above it says: ``not run``, ``needs``, ``exit code``."""

    @property
    def lines(self) -> list[str]:
        """Lines of a shell, continued ones joined."""
        return self.text.replace("\\\n", " ").splitlines()


@dataclass(frozen=True, slots=True)
class Span:
    """Code inside a sentence, and the commands that it may be about."""

    where: str
    text: str
    commands: tuple[str, ...]


@dataclass(slots=True)
class Page:
    """What one page holds."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    """Place and text of what is no code."""
    links: list[tuple[str, str]] = field(default_factory=list)
    """Place and target, of links and images."""
    anchors: list[str] = field(default_factory=list)
    """What a link to a heading may name, as repositories on the web make it."""


@cache
def read(path: Path) -> Page:
    """Take a page apart. Its tables that the code makes are left out; a test compares them by themselves."""
    text = TABLES["TABLE"].sub(lambda made: "\n" * made[0].count("\n"), path.read_text("utf-8"))
    page, notes, commands = Page(path), {}, ("run",)
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        where = f"{page_id(path)}:{token.map[0] + 1 if token.map else 0}"
        if token.type == "html_block":
            found = [note.partition(": ") for note in _COMMENT.findall(token.content)]
            notes = {name: value for name, _, value in found}
            commands = tuple(notes["of"].split()) if "of" in notes else commands
        elif token.type == "heading_open":
            commands = ("run",)
        elif token.type == "fence":
            page.blocks.append(Block(where, token.info, token.content, notes))
            notes = {}
        elif token.type == "inline":
            _take_inline(page, token, where, commands)
        if token.type == "inline" and text.splitlines()[token.map[0]].startswith("#"):
            page.anchors.append(_anchor("".join(part.content for part in token.children or ()), page.anchors))
    return page


def _take_inline(page: Page, token: Token, where: str, commands: tuple[str, ...]) -> None:
    for part in token.children or ():
        if part.type == "code_inline":
            page.spans.append(Span(where, part.content, commands))
        elif part.type == "text":
            page.texts.append((where, part.content))
        elif part.type in ("link_open", "image"):
            page.links.append((where, str(part.attrs.get("href") or part.attrs.get("src"))))


def _anchor(heading: str, taken: list[str]) -> str:
    name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    return f"{name}-{taken.count(name)}" if name in taken else name


@dataclass(frozen=True, slots=True)
class Call:
    """One command of batchcap in a line of a shell."""

    name: str
    """Of the command; ``batchcap`` where an option follows at once."""
    arguments: list[str]
    environment: dict[str, str]
    alone: bool
    """The line holds nothing else, so that no shell is needed."""


def calls(line: str) -> Iterator[Call]:
    """The commands of batchcap in a line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    begins = 0
    for place, word in enumerate(words):
        if _OPERATOR.fullmatch(word):
            begins = place + 1
        before = words[begins:place]
        if word != "batchcap" or place + 1 == len(words) or not all(map(_BEFORE.fullmatch, before)):
            continue
        arguments = list(takewhile(lambda each: not _OPERATOR.fullmatch(each), words[place + 1 :]))
        given = dict(each.split("=", 1) for each in before if "=" in each)
        alone = len(given) == place and len(arguments) == len(words) - place - 1 and not arguments[0].startswith("-")
        name = "batchcap" if arguments[0].startswith("-") else arguments.pop(0)
        yield Call(name, arguments, given, alone)


def commands() -> dict[str, Any]:
    """Every command of the command line by its name, and ``batchcap`` itself."""
    group = typer.main.get_command(app)
    context = typer.Context(group)
    return {"batchcap": group} | {name: group.get_command(context, name) for name in group.list_commands(context)}
