"""``python -m batchcap`` and the console script."""

from __future__ import annotations

import sys

import batchcap


def main() -> None:
    """Run the command line."""
    try:
        from batchcap.system import interrupts, process

        process.take_over()
        interrupts.end_on_signals()
        if sys.argv[1:] == ["--version"] and _version_printed():
            return
        from batchcap.cli.app import app

        app(prog_name="batchcap")
    except KeyboardInterrupt:  # before a command begins: while its imports run
        sys.exit(130)


def _version_printed() -> bool:
    """Print the version without loading the command line, which takes most of the time; False if that failed."""
    try:
        print(f"batchcap {batchcap.__version__}", flush=True)  # noqa: T201 - without typer
    except (OSError, ValueError):  # the command line explains it
        return False
    return True


if __name__ == "__main__":
    main()
