"""A machine without memory is no fault of an image: left out because of it, an image would be missing for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transvae_platform.errors import UnreachableError

MESSAGES = ("DefaultCPUAllocator: can't allocate memory", "Insufficient memory (case 4)")
"""What torch says in a RuntimeError (c10/core/impl/alloc_cpu.cpp), and libjpeg through simplejpeg in a ValueError where

the system gives it no large block (jmemmgr.c, alloc_large): neither has a class of its own for it."""


def lacks_memory(error: BaseException) -> bool:
    """Whether this is how Python, NumPy, Arrow, Pillow, torch or libjpeg say that there is no memory left."""
    told = isinstance(error, (RuntimeError, ValueError)) and any(text in str(error) for text in MESSAGES)
    return told or isinstance(error, MemoryError)


@contextmanager
def enough_memory(purpose: str) -> Iterator[None]:
    """Turn a lack of memory inside the block, or the function, into one error for the user.

    Args:
        purpose: what the memory is for, after "to".

    Raises:
        UnreachableError: there was not enough.
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        if not lacks_memory(error):
            raise
        raise UnreachableError(
            f"data: there is no memory to {purpose} - free some, or use fewer cores; the same command continues"
        ) from None
