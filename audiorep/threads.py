"""Threads of this process's tensor operations."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Operations inside use one thread.

    For many small ones: after each of them all threads would wait for the last, which on a busy machine has no core just
    then; that can make them a hundred times slower.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
