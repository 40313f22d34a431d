"""What a node offers: its GPUs, or CPU slots."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from eflib.agent.pool import PoolDiedError
from eflib.agent.timeouts import PROBE_SECONDS
from eflib.errors import EflibError

if TYPE_CHECKING:
    from eflib.agent.pool import WarmPool

    Names = tuple[str, ...]


@dataclass(frozen=True)
class Devices:
    """The slots of a node.

    Args:
        device: ``cpu`` or ``cuda``.
        name: What the hardware calls itself.
        slots: How many workers can run at a time.
        gpus: By slot, the GPU's name for ``CUDA_VISIBLE_DEVICES``; empty on ``cpu``.
    """

    device: str
    name: str
    slots: int
    gpus: Names = ()


def find(slots: int | None, pool: WarmPool) -> Devices:
    """Return what this node offers.

    Args:
        slots: So many CPU slots; None for the GPUs that there are, or else a slot per CPU.
        pool: Where GPUs are asked: a process that has asked is of no use for forking.

    Raises:
        EflibError: The GPUs do not answer.
    """
    if slots is None and torch.version.cuda is not None:
        names = _gpu_names(pool)
        if names:
            return Devices("cuda", names[0], len(names), visible(len(names)))
    return Devices("cpu", cpu_name(), slots or _num_cpus())


def visible(count: int) -> Names:
    """Return the names by which ``CUDA_VISIBLE_DEVICES`` knows the GPUs that this process sees."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given:
        return tuple(part.strip() for part in given.split(","))[:count]
    return tuple(str(index) for index in range(count))


def cpu_name() -> str:
    """Return what the processor calls itself, or else its architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def gpu_names() -> Names:
    """Return the names of the GPUs; initialises CUDA, so it runs in a process of its own."""
    return tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _gpu_names(pool: WarmPool) -> Names:
    hint = "see whether nvidia-smi answers, or give --slots N for CPU slots"
    if not pool.wait():
        raise EflibError("the warm pool did not come up in time to ask for GPUs", hint=hint)
    try:
        return pool.call(gpu_names, seconds=PROBE_SECONDS)
    except (PoolDiedError, EOFError, OSError) as cause:
        raise EflibError(f"the GPUs of this node do not answer ({cause!r})", hint=hint) from cause


def _num_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
