"""Captioners that were made elsewhere: one room for each kind of saved model."""
