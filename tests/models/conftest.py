"""Small tensors on one thread: more threads only wait for each other."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _repeatable():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
