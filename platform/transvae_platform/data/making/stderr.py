"""Keeps single lines that a library writes to file descriptor 2, below Python, away from the terminal."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

CHUNK = 65536  # a pipe's size on Linux: what one write gives arrives in one read


@contextmanager
def without_lines(pattern: bytes) -> Iterator[None]:
    """Pass on what this process writes to stderr, but for lines in which the pattern is found.

    Everything else is passed on as it comes, also parts of lines: progress displays live of them. Processes that are
    started within would keep the pipe open; start none.
    """
    line = re.compile(rb"[^\r\n]*" + pattern + rb"[^\n]*\n?")
    sys.stderr.flush()
    terminal = os.dup(2)
    source, sink = os.pipe()

    def pass_on() -> None:
        while chunk := os.read(source, CHUNK):
            _write_all(terminal, line.sub(b"", chunk))

    reader = threading.Thread(target=pass_on, name="stderr")
    os.dup2(sink, 2)
    os.close(sink)
    reader.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)  # the pipe's last writer: the reader comes to its end
        reader.join()
        os.close(source)
        os.close(terminal)


def _write_all(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]
