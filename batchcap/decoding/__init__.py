"""Searches for captions: NumPy over a model's step; nothing here knows where the step runs."""
