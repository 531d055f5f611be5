"""Memory is used again, but never while anybody can see it."""

import numpy as np
import torch

from transvae_platform.data.stream.buffers import PAGE, SMALL, Buffers


def test_memory_is_used_again_when_nobody_holds_it():
    buffers = Buffers()
    address = buffers.empty((4, SMALL), np.dtype(np.float32)).ctypes.data
    assert buffers.empty((SMALL, 4), np.dtype(np.float32)).ctypes.data == address
    kept = buffers.empty((4, SMALL), np.dtype(np.float32))
    assert buffers.empty((4, SMALL), np.dtype(np.float32)).ctypes.data != kept.ctypes.data


def test_whoever_keeps_a_part_keeps_its_memory():
    buffers, held = Buffers(), []
    for view in (lambda a: a[1:], torch.from_numpy, lambda a: torch.from_numpy(a).permute(1, 0)[2]):
        array = buffers.empty((4, SMALL), np.dtype(np.int32))
        array[:] = len(held)
        held.append(view(array))
        del array
    buffers.empty((4, SMALL), np.dtype(np.int32))[:] = 99
    assert [int(part.flatten()[0]) for part in held] == [0, 1, 2]


def test_memory_of_another_size_goes():
    buffers = Buffers()
    buffers.empty((SMALL,), np.dtype(np.uint8))
    buffers.empty((2 * SMALL,), np.dtype(np.uint8))
    assert [kept.size - PAGE for kept in buffers._kept] == [2 * SMALL]


def test_small_batches_are_left_to_the_heap():
    buffers = Buffers()
    array = buffers.empty((3, 5), np.dtype(np.float32))
    assert (array.shape, array.dtype, buffers._kept) == ((3, 5), np.float32, [])


def test_a_batch_begins_at_a_page():
    buffers = Buffers()
    held = [buffers.empty((3, SMALL + 1), np.dtype(np.uint8)) for _ in range(4)]
    assert {array.ctypes.data % PAGE for array in held} == {0}
    assert len({array.ctypes.data for array in held}) == 4
