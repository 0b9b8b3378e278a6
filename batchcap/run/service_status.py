"""What the service manager is told of a run: ready, at work or waiting, and its figures."""

from __future__ import annotations

from batchcap.run.figures import Summary
from batchcap.system.service import Service


class ServiceStatus:
    """Tells the state of one run to a service manager; does nothing where there is none."""

    def __init__(self, service: Service, summary: Summary) -> None:
        self._service, self._summary = service, summary
        self._doing = "captioning"

    def begin(self) -> None:
        """The output is open and the first pass begins; with ``--watch`` the model is loaded, too."""
        self._service.ready(self._text())

    def tick(self) -> None:
        """An image was found or a batch is written, or there is nothing to do, and the main thread says so itself."""
        self._service.alive(self._text)

    def wait(self) -> None:
        """The run waits for images from now on."""
        self._change("waiting for images")

    def go_on(self) -> None:
        """Images have come."""
        self._change("captioning")

    def end(self) -> None:
        """The run is over, however it ended."""
        self._change("ended")

    def _change(self, doing: str) -> None:
        if doing != self._doing:
            self._doing = doing
            self._service.say(self._text())

    def _text(self) -> str:
        """``captioning: 96 captioned, 2 failed, 1,000 skipped``."""
        done = self._summary
        return f"{self._doing}: {done.captioned:,} captioned, {done.failed:,} failed, {done.skipped:,} skipped"
