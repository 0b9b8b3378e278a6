"""Captioners that this project can train. Each is the decoder half: region features and words in, the next word out."""

from __future__ import annotations

from typing import Any, Protocol

from batchcap_export.architectures.attention_gru import AttentionGRU
from batchcap_export.architectures.show_and_tell import ShowAndTell
from batchcap_export.architectures.show_attend_tell import ShowAttendTell
from batchcap_export.model.caption_model import Tensors


class Architecture(Protocol):
    """What training and conversion need of a decoder. B images, K beams, R regions, F features, V words."""

    @property
    def attends(self) -> bool:
        """Every step gives attention weights over the regions."""

    def begin(self, features: Any) -> tuple[Tensors, Tensors]:
        """Region features [B, R, F] -> states [B, ...] before the first word, memories [B, ...]."""

    def step(self, token: Any, states: Tensors, memories: Tensors) -> tuple[Any, Tensors, Any]:
        """Tokens [B, K], states [B, K, ...] -> logits [B, K, V], next states [B, K, ...], attention [B, K, R] or None.

        It is one step: no loop over a sequence.
        """


ARCHITECTURES = {"attention-gru": AttentionGRU, "show-and-tell": ShowAndTell, "show-attend-tell": ShowAttendTell}
"""By the name that users type; `training.OWN_OPTIONS` has the options that only some of them take."""
