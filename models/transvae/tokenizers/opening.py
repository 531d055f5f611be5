"""From a name or a path to a tokenizer: `sd3.5-vae`, a folder, a file."""

import difflib
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

from transvae.tokenizers.contract import Tokenizer, TokenizerError
from transvae.tokenizers.diffusers_folder import CLASS, WEIGHTS, open_folder
from transvae.tokenizers.files import read_config
from transvae.tokenizers.ours import OurTokenizer
from transvae.tokenizers.published import PUBLISHED, Published
from transvae.tokenizers.vavae import open_vavae


def open_tokenizer(source: str | Path, device: torch.device | str = "cpu") -> Tokenizer:
    """The tokenizer at a path, or of a published name.

    Args:
        source: a folder of `save_pretrained` or of diffusers (or of a pipeline, with `vae` in it), VA-VAE's file, or a
            name of PUBLISHED, whose files are taken from the hub's cache or downloaded.

    Raises:
        TokenizerError: there is none, with the ways out.
    """
    path = locate(source)
    if path.is_file():
        return open_vavae(path).to(device)
    opener = OurTokenizer.from_folder if is_ours(path) else open_folder
    return opener(path).to(device)


def is_ours(path: Path) -> bool:
    """Whether a folder holds what `save_pretrained` wrote; errors are those of `read_config`."""
    return path.is_dir() and CLASS not in read_config(path)


def locate(source: str | Path) -> Path:
    """The folder or file behind a source, downloaded if it is a published name; errors as `open_tokenizer`."""
    path = Path(source)
    if path.exists():
        inside = path / "vae"
        return (
            inside.resolve()
            if path.is_dir() and not (path / "config.json").exists() and inside.is_dir()
            else path.resolve()
        )
    if str(source) not in PUBLISHED:
        close = difflib.get_close_matches(str(source), PUBLISHED, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"published ones: {', '.join(PUBLISHED)}"
        raise TokenizerError(f"no tokenizer {str(source)!r}: there is no such folder or file - {hint}")
    published = PUBLISHED[str(source)]
    if published.no_adapter:
        raise TokenizerError(f"{published.title} cannot be opened: {published.no_adapter}")
    return _from_hub(published)


def _from_hub(published: Published) -> Path:
    try:
        if published.file:
            return Path(hf_hub_download(published.repository, published.file))
        inside = f"{published.subfolder}/" if published.subfolder else ""
        wanted = [f"{inside}config.json", f"{inside}{WEIGHTS}"]
        return Path(snapshot_download(published.repository, allow_patterns=wanted)) / (published.subfolder or "")
    except (GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        gate = (
            f"; it is gated: accept its licence ({published.licence}) on https://huggingface.co/{published.repository} "
            "and log in with `hf auth login`"
            if published.gated
            else ""
        )
        raise TokenizerError(
            f"{published.title}: {published.repository} is neither in the hub's cache nor to be had "
            f"({type(error).__name__}){gate} - or download it elsewhere and give the path of "
            f"{published.file or 'the folder with config.json and ' + WEIGHTS}"
        ) from None
