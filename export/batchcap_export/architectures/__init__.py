"""Decoders that this project can train: region features and words in, the next word out."""
