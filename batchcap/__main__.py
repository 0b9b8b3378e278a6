"""``python -m batchcap`` and the console script."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from batchcap.cli import app

    app(prog_name="batchcap")


if __name__ == "__main__":
    main()
