"""Real ranks over gloo: their environment, and the processes that a test starts for them."""

import multiprocessing
import os
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from tests.helpers.processes import wait_until

HOST = "127.0.0.1"


def meeting(rank, file):
    """Return the store at which ranks meet; rank 0 serves it, and says where in a file."""
    if rank == 0:
        store = dist.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
        file.with_suffix(".new").write_text(str(store.port))
        file.with_suffix(".new").rename(file)
        return store
    port = int(wait_until(lambda: file.exists() and file.read_text(), f"rank 0's port in {file}"))
    return dist.TCPStore(HOST, port, is_master=False, wait_for_workers=False)


@contextmanager
def rank_of(rank, world_size, folder):
    """Be a rank of a gloo group of this size, with torchrun's environment."""
    before = dict(os.environ)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    store = meeting(rank, Path(folder) / f"port-{world_size}")
    os.environ |= {"MASTER_ADDR": HOST, "MASTER_PORT": str(store.port)}
    dist.init_process_group(
        "gloo",
        store=store,
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
