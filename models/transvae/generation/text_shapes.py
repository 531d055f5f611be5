"""What text encoders answer, by their names: plain numbers, without torch."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

LENGTH = 77  # tokens of a caption (the guide's companion configuration, from CLIP)
T5 = {"small": 512, "base": 768, "large": 1024, "xl": 2048, "xxl": 4096}
"""The sizes of google/t5-v1_1-* with their channels; the guide's is XXL."""
HASHED, HASHED_LENGTH = 64, 16  # channels and tokens of hashed words by default (assumptions)


class TextEncoderError(Exception):
    """A text encoder cannot be opened, or cannot take these captions; the message says the way out."""


def text_shape(name: str | Path) -> tuple[int, int]:
    """(channels, tokens) of what an encoder of this name answers; reads no weights.

    Raises:
        TextEncoderError: there is none of this name, with those that exist; or as the encoder itself.
    """
    kind, _, rest = str(name).partition("-")
    if kind == "hashed" and (not rest or rest.isdigit()):
        return int(rest or HASHED), HASHED_LENGTH
    if Path(name).is_dir():
        try:
            return int(json.loads((Path(name) / "config.json").read_text())["d_model"]), LENGTH
        except (OSError, ValueError, KeyError) as error:
            raise TextEncoderError(f"{name} holds no T5 that transformers can open: config.json: {error}") from None
    known = {f"t5-v1_1-{size}": channels for size, channels in T5.items()}
    if str(name) in known:
        return known[str(name)], LENGTH
    close = difflib.get_close_matches(str(name), ["hashed", *known], n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are hashed, hashed-64, ..., {', '.join(known)}"
    raise TextEncoderError(f"no text encoder {str(name)!r}: there is no such folder - {hint}")
