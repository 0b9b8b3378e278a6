"""The command `merge`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from batchcap.cli.command import OUTPUTS, Command
from batchcap.cli.shared import DryRun, Verbose
from batchcap.errors import OptionError
from batchcap.options.field import Option
from batchcap.options.output import parse_output
from batchcap.options.terminal import Quiet
from batchcap.system.interrupts import InterruptGuard


def merge(
    inputs: Annotated[
        tuple[Path, ...], Option("Outputs of `batchcap run`, JSONL or CSV.", metavar="FILE", argument=True, env=False)
    ],
    output: Annotated[
        str, Option("The merged output: .jsonl or .csv.", short="-o", metavar="FILE", text=True, env=False)
    ],
    root: Annotated[
        Path | None,
        Option(
            "Write this root into all records. Needed where the same folder has several names, as on several hosts.",
            metavar="FOLDER",
            env=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, Option("Replace an output that is there; it may be one of the inputs.", env=False)
    ] = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Merge outputs of run into one, such as those of --shard.

    Where several hold an image, the last caption in the order given is kept;
    an error only where none of them has a caption.

    Exit codes: 0 merged; 1 it cannot be done; 2 wrong usage; 3 merged, but
    inputs differ about captions (a caption, or how it was made); 75 a run
    holds the output.
    """
    from batchcap.console.journals import show_merged
    from batchcap.journal import merge as merging

    path, output_format = parse_output(output, choosable=False)
    if path is None:
        raise OptionError("-o -: a merge writes a file, not standard output.", "Name a .jsonl or .csv file.")
    folder = None if root is None else os.path.abspath(root)  # noqa: PTH100 - links stay as they are
    with InterruptGuard():
        if dry_run:
            merged = merging.plan(inputs, path, output_format, root=folder)
        else:
            merged = merging.merge(inputs, path, output_format, root=folder, overwrite=overwrite)
    if not quiet:
        show_merged(merged, dry_run=dry_run)
    if merged.conflicts:
        raise typer.Exit(3)


COMMAND = Command(merge, panel=OUTPUTS)
