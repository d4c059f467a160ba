"""How many threads are worth their while."""

from __future__ import annotations

import time

import torch

from rlgen.ranges import available_processors


def choose_threads() -> int:
    """Number of threads for torch, by a measurement of some hundredths of a second: more only where they are faster.

    On a machine that others use too, each product waits for the thread that has no processor just then.
    """
    before = torch.get_num_threads()  # OMP_NUM_THREADS, where it is set
    most = min(available_processors(), before)
    candidates = [*(1 << i for i in range(most.bit_length() - 1)), most]
    rows, weights = torch.ones(4096, 64), torch.full((64, 64), 1 / 64)

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        torch.tanh(rows @ weights)  # threads start
        started = time.perf_counter()
        for _ in range(4):
            torch.tanh(rows @ weights)
        return time.perf_counter() - started

    try:
        found = {threads: sum(seconds(threads) for _ in range(2)) for threads in candidates}
    finally:
        torch.set_num_threads(before)
    least = min(found.values())
    return next(threads for threads, taken in found.items() if taken < 1.1 * least)
