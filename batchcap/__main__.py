"""``python -m batchcap`` and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from batchcap.system import interrupts, process

        process.take_over()
        interrupts.end_on_second_signal()
        from batchcap.cli.app import app

        app(prog_name="batchcap")
    except KeyboardInterrupt:  # before a command begins: while its imports run
        sys.exit(130)


if __name__ == "__main__":
    main()
