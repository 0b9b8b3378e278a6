"""Captioners that Keras has saved."""
