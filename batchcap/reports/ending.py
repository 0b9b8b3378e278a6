"""How a run has ended: with which exit code, and because of what."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Literal, Self

from batchcap.console.terminal import as_bug
from batchcap.errors import BatchcapError
from batchcap.run.figures import Summary
from batchcap.system.interrupts import Interrupted

Outcome = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of a run."""

    exit_code: int
    outcome: Outcome
    """``finished``: it came to its end; ``stopped``: by a signal, or by the reader of a pipe; ``failed``: an error."""
    signal: int | None = None
    error: str = ""
    """The class of the error."""
    title: str = ""
    message: str = ""
    fix: str = ""
    traceback: str = ""
    """Of an error that batchcap did not expect."""

    @classmethod
    def of(cls, error: BaseException | None, summary: Summary) -> Self:
        """The end of a run by what it raised; None: nothing. The exit codes are those of the command line."""
        if error is None and summary.interrupted is None:
            return cls(exit_code=summary.exit_code, outcome="finished")
        if error is None or isinstance(error, Interrupted | KeyboardInterrupt):
            signum = _signal(error, summary)
            return cls(exit_code=128 + signum, outcome="stopped", signal=signum)
        if isinstance(error, BrokenPipeError):  # the reader of the records has seen enough
            return cls(exit_code=0, outcome="stopped")
        foreseen = isinstance(error, BatchcapError)
        said = error if isinstance(error, BatchcapError) else as_bug(error)
        return cls(
            exit_code=said.exit_code,
            outcome="failed",
            error=type(error).__name__,
            title=said.title,
            message=said.message,
            fix=said.fix,
            traceback="" if foreseen else "".join(traceback.format_exception(error)),
        )


def _signal(error: BaseException | None, summary: Summary) -> int:
    if isinstance(error, Interrupted):
        return error.signum
    return summary.interrupted or 2  # a KeyboardInterrupt is SIGINT
