"""``.h5`` files of Keras 2 and 3: what Keras 3 needs in order to open them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
from keras import layers


class _Attention(layers.Attention):
    @classmethod
    def from_config(cls, config: dict[str, Any]) -> layers.Attention:
        # The reader takes the word "dot" for the function of that name.
        mode = config.get("score_mode", "dot")
        return layers.Attention(**{**config, "score_mode": getattr(mode, "__name__", mode)})


def _with_states(layer: type[layers.RNN]) -> type[layers.RNN]:
    """The layer for a file of Keras 2, which passes the initial states in one list with the sequence."""

    class WithStates(layer):  # type: ignore[misc, valid-type]
        def __call__(self, sequences: Any, initial_state: Any = None, **kwargs: Any) -> Any:
            if isinstance(sequences, (list, tuple)) and initial_state is None:
                sequences, *initial_state = sequences
            return super().__call__(sequences, initial_state=initial_state, **kwargs)

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            return cls(**{name: value for name, value in config.items() if name != "time_major"})

    WithStates.__name__ = layer.__name__
    return WithStates


_LAYERS = {
    "Attention": _Attention,
    **{layer.__name__: _with_states(layer) for layer in (layers.GRU, layers.LSTM, layers.SimpleRNN)},
}


def load(path: Path) -> keras.Model:
    """Open an ``.h5`` file; what Keras raises passes through."""
    return keras.models.load_model(path, custom_objects=_LAYERS, compile=False)
