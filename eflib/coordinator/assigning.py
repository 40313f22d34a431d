"""Which workers each node should run, and where their process groups meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eflib.coordinator.membership import Stage
from eflib.messages.records import WorkerAssignment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eflib.coordinator.job import Job
    from eflib.coordinator.membership import Seat
    from eflib.messages.records import NodeRecord
    from eflib.scheduling import Gpu

Assigned = dict[str, tuple[WorkerAssignment, ...]]
"""Workers by node."""


def assignments(jobs: Iterable[Job], nodes: Mapping[str, NodeRecord]) -> Assigned:
    """Return the workers that each node should run."""
    wanted: dict[str, list[WorkerAssignment]] = {node: [] for node in nodes}
    for job in jobs:
        for seat in job.members.wanted():
            if seat.gpu.node in wanted:
                wanted[seat.gpu.node].append(_assignment(job, seat, nodes))
    return {node: tuple(workers) for node, workers in wanted.items()}


def endpoint_of(node: str, nodes: Mapping[str, NodeRecord]) -> tuple[str, int]:
    """Return the address of a node's store for process groups; empty for one that is gone."""
    record = nodes.get(node)
    return ("", 0) if record is None else (record.store_host, record.store_port)


def is_free(gpu: Gpu, job: Job, jobs: Iterable[Job]) -> bool:
    """Tell whether no other job's worker trains on a slot."""
    return not any(
        seat.gpu == gpu and seat.stage is Stage.MEMBER
        for other in jobs
        if other is not job
        for seat in other.members.alive()
    )


def _assignment(job: Job, seat: Seat, nodes: Mapping[str, NodeRecord]) -> WorkerAssignment:
    peers = [one for one in job.members.target if one.node == seat.gpu.node]
    newest = job.members.newest
    host, port = newest.master_addr, newest.master_port
    if (host, port) not in (endpoint_of(node, nodes) for node in nodes):
        host, port = endpoint_of(seat.gpu.node, nodes)  # none yet, or its node is gone
    return WorkerAssignment(
        worker=seat.worker,
        job=job.job,
        job_name=job.name,
        slot=seat.gpu.index,
        generation=seat.generation,
        rank=seat.rank,
        world_size=max(seat.world_size, 1),
        local_rank=peers.index(seat.gpu) if seat.gpu in peers else 0,
        local_world_size=max(len(peers), 1),
        mode=seat.mode,
        log_dir=job.log_dir,
        checkpoint_dir=job.checkpoint_dir,
        master_addr=host,
        master_port=port,
    )
