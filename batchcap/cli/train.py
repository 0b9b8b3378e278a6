"""The command `train`. What it calls is imported when it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from batchcap.cli.command import MAKE_A_MODEL, Command
from batchcap.cli.frameworks import need_export, tensorflow_loaded
from batchcap.cli.shared import RunFolder, VerboseTensorFlow

if TYPE_CHECKING:
    from batchcap_export.options.training import TrainOptions


def train(options: TrainOptions, output: RunFolder, verbose: VerboseTensorFlow = 0) -> None:
    """Train a captioner on a frozen backbone, and score it on the dev images."""
    from batchcap.console.progress import Steps
    from batchcap.console.terminal import say
    from batchcap_export.training.train_plan import check_training

    check_training(options, output)
    if options.weights == "random":
        say("warning: --weights random: the backbone sees next to nothing, and no caption will fit its image")
    with tensorflow_loaded(verbose, f"Stopped: the same command goes on with what is done in {output}."):
        from batchcap_export.training.train import train as train_captioner

        with Steps() as steps:
            scores = train_captioner(options, output, steps, say)
    bleu = "/".join(f"{value:.3f}" for value in scores.bleu)
    typer.echo(f"{output}: BLEU-1..4 {bleu}, CIDEr {scores.cider:.3f} ({scores.signature})")
    typer.echo(f"Next: batchcap export {output} -o BUNDLE")


def _names() -> dict[str, Any]:
    from batchcap_export.options.training import TrainOptions

    return {"TrainOptions": TrainOptions}


COMMAND = Command(train, panel=MAKE_A_MODEL, names=_names, before=need_export)
