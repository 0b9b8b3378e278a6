"""Options that several commands take one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from batchcap.options.field import TERMINAL, Option

Verbose: TypeAlias = Annotated[int, Option("Say more. -vv adds tracebacks.", short="-v", panel=TERMINAL, count=True)]
VerboseTensorFlow: TypeAlias = Annotated[
    int,
    Option("Show the messages of TensorFlow too. -vv adds tracebacks.", short="-v", panel=TERMINAL, count=True),
]
RunFolder: TypeAlias = Annotated[
    Path, Option("Run folder. The same command goes on where it stopped.", short="-o", env=False, readable=True)
]
Journal: TypeAlias = Annotated[
    Path, Option("An output of `batchcap run`: a .jsonl or .csv file.", metavar="FILE", argument=True, env=False)
]
DryRun: TypeAlias = Annotated[bool, Option("Only say what would be done.", env=False)]
