"""What a run needs, checked before the model is loaded and the output is touched."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchcap.bundle.bundle import Bundle, open_bundle
from batchcap.bundle.token_lookup import prefix_tokens
from batchcap.images import discovery
from batchcap.images.discovery import Inputs
from batchcap.images.walk import Unread
from batchcap.options.decoding import DecodingOptions
from batchcap.options.operation import OperationOptions
from batchcap.options.run import RunOptions
from batchcap.records import Fingerprint, ImageRef
from batchcap.run.figures import Start, Summary
from batchcap.run.output import Output
from batchcap.run.selection import at_least_one
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device import Device
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.precision_choice import in_precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a run needs, checked. Make it with `check`."""

    options: RunOptions
    operation: OperationOptions
    bundle: Bundle
    decoding: DecodingOptions
    device: Device
    fingerprint: Fingerprint
    inputs: Inputs
    found: Iterator[ImageRef]
    """The images of the inputs, for the first pass over them."""

    @property
    def starts_anew(self) -> bool:
        """Whether there is surely no record to go on from."""
        # Not Path.exists, which raises for a name that is too long or hidden: opening the output explains that.
        output = self.options.output
        return output is None or self.options.overwrite or not os.path.exists(output)  # noqa: PTH110

    def found_again(self, summary: Summary) -> Iterator[ImageRef]:
        """The images of the inputs as they are now; raises as `check`."""
        summary.unread = Unread()
        inputs = discovery.resolve(self.options.inputs, self.options.root)
        return at_least_one(inputs.images(summary.unread), self.options, summary.unread)

    def load_model(self) -> Captioner:
        return Captioner(self.bundle, self.decoding, self.device, self.options.batch_size)

    def start(self, output: Output) -> Start:
        return Start(
            inputs=self.options.inputs,
            output=self.options.output,
            model=self.bundle.label,
            terms=self.bundle.manifest.provenance.terms,
            device=self.device.description,
            fresh=output.fresh,
            shard=self.operation.shard or "",
        )


def check(options: RunOptions, operation: OperationOptions, overrides: Mapping[str, Any], summary: Summary) -> Job:
    """Check everything that can be checked before the model is loaded and the output is touched.

    Args:
        options, operation: of the run.
        overrides: what differs from the bundle's defaults of the decoding; see `decoding_defaults.decoding_options`.
        summary: gets the device and the fingerprint, and counts what lies in the folders and is not read.

    Raises:
        BatchcapError: the run cannot start; each cause has its class.
    """
    bundle = open_bundle(options.model)
    decoding = decoding_options(bundle.manifest, **overrides)
    prefix_tokens(bundle, decoding)  # a word, banned ones too, that the model does not know ends the run here already
    device = choose_device(options.device)
    bundle = in_precision(bundle, options.precision, device)
    fingerprint = Fingerprint(model=bundle.label, preprocess="exact", decoding=decoding.label)
    inputs = discovery.resolve(options.inputs, options.root)
    found = at_least_one(inputs.images(summary.unread), options, summary.unread)
    summary.device, summary.device_note, summary.fingerprint = device.description, device.note, fingerprint
    return Job(
        options=options,
        operation=operation,
        bundle=bundle,
        decoding=decoding,
        device=device,
        fingerprint=fingerprint,
        inputs=inputs,
        found=found,
    )
