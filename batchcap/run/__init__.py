"""The way of every image: found, loaded, captioned, written, and the figures of it."""
