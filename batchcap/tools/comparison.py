"""How many images are captioned to compare captions."""

from __future__ import annotations

from typing import Final

COMPARED_IMAGES: Final = 64
"""An export needs as many, since fewer captions prove too little; it and `batchcap verify` caption no more."""
