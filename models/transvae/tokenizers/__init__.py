"""Everybody's image tokenizers behind one contract: ours, diffusers' classes, VA-VAE's file."""

from transvae.tokenizers.contract import Facts, Point, Tokenizer, TokenizerError
from transvae.tokenizers.opening import open_tokenizer
from transvae.tokenizers.published import PUBLISHED, Published

__all__ = ["PUBLISHED", "Facts", "Point", "Published", "Tokenizer", "TokenizerError", "open_tokenizer"]
