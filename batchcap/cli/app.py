"""The command line: every command parses, calls one function, and prints what it returns."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from batchcap import __version__
from batchcap.cli import export, verify
from batchcap.cli.help import shorten
from batchcap.cli.usage import path_of, usage_explained
from batchcap.errors import BatchcapError, OptionError, OutputError
from batchcap.options.decoding import Search, Style
from batchcap.options.output import Format, parse_output
from batchcap.options.precision import WantedPrecision
from batchcap.options.run import OnMismatch, RunOptions
from batchcap.system.interrupts import Interrupted, InterruptGuard
from batchcap.system.process import forget_stdout


class GuardedGroup(TyperGroup):
    """Turns every error of every command into one panel and its exit code; a traceback needs -vv."""

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        with usage_explained():
            return super().make_context(*arguments, **settings)

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)
        shorten(params, None)
        return params

    def get_command(self, ctx: Any, name: str) -> Any:
        command = super().get_command(ctx, name)
        if command is not None:
            shorten(command.get_params(ctx), command.callback)
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            with usage_explained():
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except BatchcapError as error:
            from batchcap.console.terminal import show_error

            show_error(error, ctx.obj or 0)
            forget_stdout()
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Interrupted as stop:
            raise typer.Exit(128 + stop.signum) from None
        except BrokenPipeError:  # the reader of our output has seen enough; of `verify` not whether all holds
            forget_stdout()
            raise typer.Exit(1 if ctx.invoked_subcommand == "verify" else 0) from None
        except Exception as error:
            if hasattr(error, "exit_code"):  # of typer; no wrong usage, which was explained
                raise
            if isinstance(error.__cause__, KeyboardInterrupt):  # C extensions call it a failed import
                raise typer.Exit(130) from None
            _show_unforeseen(error, ctx.obj or 0)
            raise typer.Exit(1) from None


def _show_unforeseen(error: Exception, verbosity: int) -> None:
    from batchcap.console.terminal import show_bug, show_error

    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # other places are named where they are written
        show_error(OutputError(f"Standard output cannot be written: {error.strerror}."), verbosity)
        forget_stdout()
    else:
        show_bug(error, verbosity)


app: Final = typer.Typer(
    name="batchcap",
    cls=GuardedGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Captions for folders of photos: offline, in batches, restartable.",
)


_CAPTIONS: Final = "Captions"
_OUTPUT: Final = "Output"
_SPEED: Final = "Device and speed"
_TERMINAL: Final = "Terminal"


def _option(name: str, help: str, *more: str, panel: str | None = None, **settings: Any) -> Any:
    """An option that the environment can set too: --beam-size is BATCHCAP_BEAM_SIZE."""
    variable = "BATCHCAP_" + name.split("/", maxsplit=1)[0].lstrip("-").replace("-", "_").upper()
    # The help of `run` says so once: a line an option would make it twice as long.
    return typer.Option(name, *more, help=help, envvar=variable, show_envvar=False, rich_help_panel=panel, **settings)


def _note_verbosity(ctx: typer.Context, verbosity: int) -> int:
    """For `GuardedGroup`, which stands outside the command."""
    ctx.find_root().obj = verbosity
    return verbosity


Verbose = Annotated[
    int,
    _option(
        "--verbose",
        "Say more, such as the name of every failed image; -vv adds tracebacks.",
        "-v",
        panel=_TERMINAL,
        metavar="",
        show_default=False,
        count=True,
        callback=_note_verbosity,
    ),
]
Quiet = Annotated[
    bool,
    _option(
        "--quiet", "Print errors that stop the run only; the exit code tells of failed images.", "-q", panel=_TERMINAL
    ),
]
Model = Annotated[
    str,
    _option(
        "--model", "Name of an embedded bundle, or the folder of a bundle.", panel=_CAPTIONS, metavar="NAME|FOLDER"
    ),
]
DeviceName = Annotated[
    str,
    _option(
        "--device", "auto, cpu, cuda or cuda:N. A GPU that is named must be there.", panel=_SPEED, metavar="DEVICE"
    ),
]
PrecisionName = Annotated[
    WantedPrecision,
    _option(
        "--precision",
        "Which graphs of the model run. auto: fp16 on a GPU; fp32 on a CPU, or int8 where the model says that it is "
        "equivalent.",
        panel=_SPEED,
    ),
]
BatchSize = Annotated[
    int, _option("--batch-size", "Images that go through the model together. Never changes a caption.", panel=_SPEED)
]
Workers = Annotated[
    int, _option("--workers", "Threads that read and decode images; 0: one for each core.", panel=_SPEED)
]
BeamSize = Annotated[
    int | None, _option("--beam-size", "Captions followed at once. [dim]Default: the model's[/dim]", panel=_CAPTIONS)
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"batchcap {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    del version


@app.command()
def run(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="Folders (with all folders in them) and image files.", parser=path_of),
    ],
    output: Annotated[
        str,
        _option("--output", "A .jsonl or .csv file, or - for JSON lines on standard output.", "-o", metavar="FILE"),
    ],
    model: Model = "flickr8k-small",
    search: Annotated[
        Search | None, _option("--search", "How captions are found. [dim]Default: the model's[/dim]", panel=_CAPTIONS)
    ] = None,
    beam_size: BeamSize = None,
    num_captions: Annotated[
        int | None, _option("--num-captions", "Captions an image, best first. [dim]Default: 1[/dim]", panel=_CAPTIONS)
    ] = None,
    max_length: Annotated[
        int | None, _option("--max-length", "Most words of a caption. [dim]Default: the model's[/dim]", panel=_CAPTIONS)
    ] = None,
    length_penalty: Annotated[
        float | None,
        _option(
            "--length-penalty",
            "0 favours short captions, 1 is fair to long ones. [dim]Default: the model's[/dim]",
            panel=_CAPTIONS,
        ),
    ] = None,
    min_length: Annotated[
        int | None, _option("--min-length", "Fewest words of a caption. [dim]Default: 0[/dim]", panel=_CAPTIONS)
    ] = None,
    ban: Annotated[
        list[str] | None,
        _option("--ban", "A word that no caption holds; give it again for more.", panel=_CAPTIONS, metavar="WORD"),
    ] = None,
    ban_file: Annotated[
        Path | None,
        _option("--ban-file", "A file of words to ban, one a line.", panel=_CAPTIONS, metavar="FILE", parser=path_of),
    ] = None,
    allow_unknown: Annotated[
        bool,
        _option(
            "--allow-unknown",
            "Let captions hold the mark for words the model does not know; of im2txt the start mark too.",
            panel=_CAPTIONS,
        ),
    ] = False,
    no_repeat_ngram: Annotated[
        int | None,
        _option(
            "--no-repeat-ngram",
            "No N words in a row come twice in a caption. [dim]Default: they may[/dim]",
            panel=_CAPTIONS,
            metavar="N",
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        _option("--prefix", 'First words of every caption, such as "a photo of".', panel=_CAPTIONS, metavar="WORDS"),
    ] = None,
    temperature: Annotated[
        float | None,
        _option(
            "--temperature", "Sampling: below 1 likely words become likelier. [dim]Default: 1[/dim]", panel=_CAPTIONS
        ),
    ] = None,
    top_k: Annotated[
        int | None, _option("--top-k", "Sampling: draw from the K best words. [dim]Default: all[/dim]", panel=_CAPTIONS)
    ] = None,
    top_p: Annotated[
        float | None,
        _option(
            "--top-p",
            "Sampling: draw from the fewest words that hold this probability. [dim]Default: 1[/dim]",
            panel=_CAPTIONS,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        _option("--seed", "Sampling: another seed, other captions. [dim]Default: 0[/dim]", panel=_CAPTIONS),
    ] = None,
    style: Annotated[
        Style, _option("--style", "How captions are written; sentence: a capital and a full stop.", panel=_CAPTIONS)
    ] = "raw",
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    batch_size: BatchSize = 32,
    workers: Workers = 0,
    format: Annotated[
        Format | None,
        _option("--format", "How records are written. [dim]Default: by the file's ending[/dim]", panel=_OUTPUT),
    ] = None,
    root: Annotated[
        Path | None,
        _option(
            "--root",
            "Write paths relative to this folder. [dim]Default: the input if it is one folder alone, else the current "
            "folder[/dim]",
            panel=_OUTPUT,
            metavar="FOLDER",
            parser=path_of,
        ),
    ] = None,
    relocate: Annotated[
        bool,
        _option(
            "--relocate",
            "The images have moved: write this run's root into all records of the output, and go on. Needed once.",
            panel=_OUTPUT,
        ),
    ] = False,
    limit: Annotated[
        int | None,
        _option(
            "--limit",
            "Caption at most this many images now; what could not be read before is tried besides.",
            panel=_OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        _option(
            "--overwrite",
            "Start anew; the old file stays until the new one is complete. Stopped, the same command goes on.",
            panel=_OUTPUT,
        ),
    ] = False,
    on_mismatch: Annotated[
        OnMismatch,
        _option(
            "--on-mismatch",
            "If the output was made with another model or other settings: stop, recaption everything, or keep what is "
            "there.",
            panel=_OUTPUT,
        ),
    ] = "stop",
    retry_errors: Annotated[
        bool, _option("--retry-errors", "Try again the images that could not be decoded.", panel=_OUTPUT)
    ] = False,
    accept_damaged: Annotated[
        bool,
        _option(
            "--accept-damaged",
            "Caption what can be decoded of truncated and damaged images; their records say damaged.",
            panel=_OUTPUT,
        ),
    ] = False,
    allow_empty: Annotated[
        bool, _option("--allow-empty", "Inputs without any image are no error.", panel=_OUTPUT)
    ] = False,
    progress: Annotated[
        bool | None,
        _option("--progress/--no-progress", "A bar on a terminal, a line every 30 s elsewhere.", panel=_TERMINAL),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Caption every image under INPUT and write one record an image to FILE.

    The file is the state: the same command again skips what is done, after
    a crash too. Every option can also be set by an environment variable, for
    example BATCHCAP_DEVICE=cpu.

    Exit codes:
    0 all captioned, or nothing new;
    1 could not run or had to stop: nothing written is lost, run it again;
    2 wrong usage;
    3 some images have no caption, from this run or before: their records say why;
    75 another run holds the file;
    130, 143 stopped by a signal.
    """
    if progress and quiet:
        raise OptionError("--progress and --quiet exclude each other.", "Leave one of them out.")
    path, chosen_format = parse_output(output, format)
    options = RunOptions(
        inputs=tuple(inputs),
        output=path,
        model=model,
        format=chosen_format,
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        root=root,
        relocate=relocate,
        on_mismatch=on_mismatch,
        overwrite=overwrite,
        retry_errors=retry_errors,
        accept_damaged=accept_damaged,
        allow_empty=allow_empty,
        limit=limit,
    )
    decoding = {
        "search": search,
        "beam_size": beam_size,
        "num_captions": num_captions,
        "max_length": max_length,
        "length_penalty": length_penalty,
        "min_length": min_length,
        "ban": ban,
        "ban_file": ban_file,
        "allow_unknown": allow_unknown,
        "no_repeat_ngram": no_repeat_ngram,
        "prefix": prefix,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "style": style,
    }
    from batchcap.console.progress import Display
    from batchcap.console.summary import show_summary
    from batchcap.run import pipeline

    # A bar among records that go to the same terminal could not be read, nor could they.
    mixed = path is None and sys.stdout is not None and sys.stdout.isatty()
    shown = progress is not False and not quiet and not mixed
    with Display(shown, quiet=quiet, verbosity=verbose) as display:
        summary = pipeline.run(options, decoding, display, display.begin, count_total=display.counts)
    if not quiet:
        show_summary(summary, verbose)
    raise typer.Exit(summary.exit_code)


@app.command()
def info(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE", help="Name of an embedded bundle, or the folder of a bundle.", envvar="BATCHCAP_MODEL"
        ),
    ] = "flickr8k-small",
    verbose: Verbose = 0,
) -> None:
    """Show what a model bundle is, what it expects, and how good it was measured to be."""
    from batchcap.bundle.bundle import open_bundle
    from batchcap.console.tables import show_bundle

    show_bundle(open_bundle(bundle))


@app.command()
def doctor(model: Model = "flickr8k-small", verbose: Verbose = 0) -> None:
    """Show versions and the devices that really work here, and how to get the GPU going.

    The exit code is 1 where no device works.
    """
    from batchcap.console.tables import show_diagnosis
    from batchcap.tools.doctor import examine

    diagnosis = examine(model)
    show_diagnosis(diagnosis)
    if not any(check.works for check in diagnosis.devices):
        raise typer.Exit(1)


@app.command()
def bench(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER", help="Images to measure with; default: generated 500x375 JPEGs.", parser=path_of
        ),
    ] = None,
    model: Model = "flickr8k-small",
    images: Annotated[int, typer.Option("--images", help="How many images.", min=1)] = 512,
    repeats: Annotated[
        int, typer.Option("--repeats", help="How often each part is measured; the median counts.", min=1)
    ] = 3,
    beam_size: BeamSize = None,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    batch_size: BatchSize = 32,
    workers: Workers = 0,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Also write the figures and all settings here.", parser=path_of),
    ] = None,
    verbose: Verbose = 0,
) -> None:
    """Measure images a second: end to end, and encoder, decoding of images, and search alone.

    Run it while nothing else runs.
    """
    from batchcap.console.tables import show_bench
    from batchcap.console.terminal import say
    from batchcap.options.bench import BenchOptions
    from batchcap.tools.bench import measure, write_report

    options = BenchOptions(
        model=model,
        folder=folder,
        images=images,
        repeats=repeats,
        beam_size=beam_size,
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
    )
    with InterruptGuard():  # it has a temporary folder to remove
        report = measure(options, say)
    show_bench(report)
    if json_file is not None:
        write_report(report, json_file)


verify.register(app)
export.register(app)
