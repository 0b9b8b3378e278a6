"""The command `distill`. What it calls is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchcap.cli.command import MAKE_A_MODEL, Command
from batchcap.cli.frameworks import need_export, tensorflow_loaded
from batchcap.cli.shared import RunFolder, VerboseTensorFlow
from batchcap.options.field import Option

if TYPE_CHECKING:
    from batchcap_export.options.training import DistillOptions, ImageFolders


def distill(
    output: RunFolder,
    teacher: Annotated[Path, Option("The teacher: a .keras network with input in -1..1.", env=False, readable=True)],
    layer: Annotated[str, Option("The teacher's layer to imitate. Its map must be 7x7.", env=False)],
    folders: ImageFolders,
    options: DistillOptions,
    verbose: VerboseTensorFlow = 0,
) -> None:
    """Train the `small` backbone to give the features of a teacher network."""
    from batchcap.console.progress import Steps
    from batchcap.console.terminal import say
    from batchcap_export.training.distill_plan import check_distilling

    check_distilling(teacher, folders, output, options)
    with tensorflow_loaded(verbose, f"Stopped: the same command goes on with what is done in {output}."):
        from batchcap_export.training.distill import distill_folders

        with Steps() as steps:
            weights = distill_folders(teacher, layer, folders, output, options, steps, say)
    typer.echo(f"{weights}: the distilled backbone. Next: batchcap train --backbone small --weights {weights} ...")


def _names() -> dict[str, Any]:
    from batchcap_export.options.training import DistillOptions, ImageFolders

    return {"DistillOptions": DistillOptions, "ImageFolders": ImageFolders}


COMMAND = Command(distill, panel=MAKE_A_MODEL, names=_names, before=need_export)
