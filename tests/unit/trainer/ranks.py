"""Real ranks over gloo: their environment, and the processes that a test starts for them."""

import multiprocessing
import os
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist


@contextmanager
def rank_of(rank, world_size, folder):
    """Be a rank of a gloo group of this size, with torchrun's environment."""
    before = dict(os.environ)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "unused", "MASTER_PORT": "0"}
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting-{world_size}",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=90),
    )
    try:
        yield
    finally:
        dist.destroy_process_group()
        os.environ.clear()
        os.environ.update(before)


def run_ranks(run_rank, world_size, folder):
    """Call ``run_rank(rank, folder)`` for all ranks: for rank 0 here, for others in processes."""
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=run_rank, args=(rank, str(folder))) for rank in range(1, world_size)
    ]
    for other in others:
        other.start()
    num_threads = torch.get_num_threads()
    try:
        run_rank(0, str(folder))
        for other in others:
            other.join(90)
    finally:
        torch.set_num_threads(num_threads)
        for other in others:
            other.kill()
            other.join()
