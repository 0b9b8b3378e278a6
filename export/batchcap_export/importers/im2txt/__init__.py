"""Captioners of the Show and Tell code (tensorflow/models, research/im2txt)."""
