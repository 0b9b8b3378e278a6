"""From a name on disk to pixels: found, opened, decoded, resized, in batches whose order is that of the files."""
