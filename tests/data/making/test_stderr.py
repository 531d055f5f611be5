"""Lines that a library writes to descriptor 2 are kept back; everything else gets through, in order."""

import os

import pytest

from transvae_platform.data.making.on_ray import RESTART_WARNING
from transvae_platform.data.making.stderr import without_lines

LINE = (
    b"[2026-11-22 09:00:00,000 E 1 2] core_worker.cc:2166: Actor with class name: 'MapWorker(...)' and ID: 'a' "
    b"has constructor arguments in the object store and max_restarts > 0. If the arguments in the object store go out "
    b"of scope or are lost, the actor restart will fail. See https://github.com/ray-project/ray/issues/53727\n"
)


def test_only_matching_lines_are_kept_back(capfd):
    with without_lines(RESTART_WARNING):
        os.write(2, b"part of a line\r")
        os.write(2, LINE)
        os.write(2, b"[...] core_worker.cc:1: something else\n" + LINE + b"end\n")
    os.write(2, LINE)
    assert capfd.readouterr().err.encode() == (b"part of a line\r[...] core_worker.cc:1: something else\nend\n" + LINE)


def test_descriptor_is_given_back_after_an_error(capfd):
    open_before = os.listdir("/proc/self/fd")  # noqa: PTH208 - names, not paths
    with pytest.raises(KeyboardInterrupt), without_lines(b"x"):
        raise KeyboardInterrupt
    assert os.listdir("/proc/self/fd") == open_before  # noqa: PTH208
    os.write(2, b"x\n")
    assert capfd.readouterr().err == "x\n"
