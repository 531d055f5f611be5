"""The bytes behind a tokenizer: which file, its SHA-256, its configuration's hash."""

import hashlib
import json
from pathlib import Path
from typing import Any

from transvae.tokenizers.contract import TokenizerError


def file_sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def config_hash(values: dict[str, Any]) -> str:
    """Of a configuration; keys with an underscore are notes of the library that wrote it."""
    kept = {key: value for key, value in values.items() if not key.startswith("_")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises TokenizerError where it is missing or no JSON mapping."""
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{path} cannot be read as a configuration ({error})") from None
    if not isinstance(values, dict):
        raise TokenizerError(f"{path} holds a {type(values).__name__}, not a mapping")
    return values
