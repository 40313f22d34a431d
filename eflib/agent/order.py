"""What a worker is told at its start: the assignment and the job's spec, made into an order.

Pure: messages in, an order with a complete environment out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from eflib.agent import exits
from eflib.errors import StoreError
from eflib.messages.generations import TRAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eflib.messages.records import JobSpec, WorkerAssignment

ROLE = "default"


@dataclass(frozen=True)
class Node:
    """What is the same for all workers of a node.

    Args:
        name: The node's name.
        store_url: Where the store is.
        key_file: Where the cluster's key is.
        device: ``cpu`` or ``cuda``.
        gpus: By slot, the name of its GPU for ``CUDA_VISIBLE_DEVICES``; empty on ``cpu``.
        environment: What workers inherit from the agent.
    """

    name: str
    store_url: str
    key_file: str
    device: str = "cpu"
    gpus: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """What to run, and in what surroundings; it travels to the new process.

    Exactly one of ``script`` and ``module`` is not empty.
    """

    worker: str
    job: str
    script: str
    module: str
    argv: tuple[str, ...]
    cwd: str
    environment: Mapping[str, str]
    log: str
    error_file: str
    parent: int = 0
    pulse_file: str = ""


def make_order(worker: WorkerAssignment, spec: JobSpec, node: Node, error_file: str) -> Order:
    """Return the order for one worker.

    Args:
        worker: Its entry in the assignment.
        spec: Its job's spec.
        node: Where it will run.
        error_file: Where it writes its exception.

    Raises:
        StoreError: The assignment names a slot that the node does not have.
    """
    own = {**_torchrun(worker, node), **_eflib(worker, spec, node), **_devices(worker, node)}
    environment = {**node.environment, **_threads(node, spec), **own}
    environment["TORCHELASTIC_ERROR_FILE"] = error_file
    return Order(
        worker=worker.worker,
        job=worker.job,
        script=spec.script or "",
        module=spec.module or "",
        argv=spec.argv,
        cwd=spec.cwd,
        environment=environment,
        log=exits.log_of(worker),
        error_file=error_file,
    )


def _torchrun(worker: WorkerAssignment, node: Node) -> dict[str, str]:
    """Return the variables that a script under torchrun finds.

    Where a worker sees one GPU alone, LOCAL_RANK is 0, as under ``torchrun --virtual-local-rank``:
    scripts use it as a device index.
    """
    rank, world_size = str(worker.rank), str(worker.world_size)
    local_rank = "0" if node.device == "cuda" else str(worker.local_rank)
    return {
        "RANK": rank,
        "LOCAL_RANK": local_rank,
        "WORLD_SIZE": world_size,
        "LOCAL_WORLD_SIZE": str(worker.local_world_size),
        "GROUP_RANK": str(worker.rank // worker.local_world_size),
        "GROUP_WORLD_SIZE": str(-(-worker.world_size // worker.local_world_size)),
        "ROLE_RANK": rank,
        "ROLE_WORLD_SIZE": world_size,
        "ROLE_NAME": ROLE,
        "MASTER_ADDR": worker.master_addr,
        "MASTER_PORT": str(worker.master_port),
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RUN_ID": worker.job,
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": node.environment.get(
            "TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"
        ),
    }


def _eflib(worker: WorkerAssignment, spec: JobSpec, node: Node) -> dict[str, str]:
    checkpoints = worker.checkpoint_dir or spec.checkpoint_dir
    return {
        "EFLIB_STORE": node.store_url,
        "EFLIB_KEY_FILE": node.key_file,
        "EFLIB_JOB": worker.job,
        "EFLIB_JOB_NAME": worker.job_name or worker.job,
        "EFLIB_WORKER": worker.worker,
        "EFLIB_NODE": node.name,
        "EFLIB_SLOT": str(worker.slot),
        "EFLIB_GENERATION": str(worker.generation),
        "EFLIB_MODE": worker.mode or TRAIN,
        "EFLIB_LOG_DIR": worker.log_dir,
        "EFLIB_CHECKPOINT_DIR": checkpoints or str(Path(worker.log_dir) / "checkpoints"),
    }


def _devices(worker: WorkerAssignment, node: Node) -> dict[str, str]:
    """Let a worker see its slot's GPU alone; on CPU slots none, though the node may have some."""
    if node.device != "cuda":
        return {"CUDA_VISIBLE_DEVICES": ""}
    if worker.slot >= len(node.gpus):
        raise StoreError(
            f"worker {worker.worker} is assigned slot {worker.slot} of node {node.name}, "
            f"which has {len(node.gpus)}"
        )
    return {"CUDA_VISIBLE_DEVICES": node.gpus[worker.slot]}


def _threads(node: Node, spec: JobSpec) -> dict[str, str]:
    """Return the job's environment, with one OpenMP thread unless somebody says otherwise."""
    environment = dict(spec.env)
    if "OMP_NUM_THREADS" not in node.environment:
        environment.setdefault("OMP_NUM_THREADS", "1")
    return environment
