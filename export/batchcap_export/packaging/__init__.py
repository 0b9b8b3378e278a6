"""From a captioner to a bundle: converted, compared, scored, described, and moved into place."""
