"""Every environment variable that eflib reads, one typed function or field each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eflib.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class WorkerEnvironment:
    """What an agent tells a worker through its environment.

    ``rank`` and ``world_size`` are what was planned when the worker was started; what holds is the
    generation record in which the worker is named.
    """

    store: str
    key_file: str
    job: str
    job_name: str
    worker: str
    node: str
    slot: int
    generation: int
    mode: str
    log_dir: str
    checkpoint_dir: str
    rank: int
    world_size: int
    local_rank: int
    master_addr: str
    master_port: int


@dataclass(frozen=True)
class TorchrunEnvironment:
    """What torchrun tells a worker: a world of fixed size."""

    rank: int
    world_size: int
    local_rank: int


def read_worker(environ: Mapping[str, str]) -> WorkerEnvironment | None:
    """Return what the agent said, or None outside an agent.

    Raises:
        UsageError: A variable is missing or is not a number; eflib's agent always sets them all.
    """
    if "EFLIB_WORKER" not in environ:
        return None
    return WorkerEnvironment(
        store=_text(environ, "EFLIB_STORE"),
        key_file=_text(environ, "EFLIB_KEY_FILE"),
        job=_text(environ, "EFLIB_JOB"),
        job_name=_text(environ, "EFLIB_JOB_NAME"),
        worker=_text(environ, "EFLIB_WORKER"),
        node=_text(environ, "EFLIB_NODE"),
        slot=_number(environ, "EFLIB_SLOT"),
        generation=_number(environ, "EFLIB_GENERATION"),
        mode=_text(environ, "EFLIB_MODE"),
        log_dir=_text(environ, "EFLIB_LOG_DIR"),
        checkpoint_dir=environ.get("EFLIB_CHECKPOINT_DIR", ""),
        rank=_number(environ, "RANK"),
        world_size=_number(environ, "WORLD_SIZE"),
        local_rank=_number(environ, "LOCAL_RANK"),
        master_addr=_text(environ, "MASTER_ADDR"),
        master_port=_number(environ, "MASTER_PORT"),
    )


def says_num_threads(environ: Mapping[str, str]) -> bool:
    """True when the environment says how many threads an operation on the CPU has."""
    return bool(environ.get("OMP_NUM_THREADS"))


def read_torchrun(environ: Mapping[str, str]) -> TorchrunEnvironment | None:
    """Return torchrun's world, or None under plain ``python``."""
    if "RANK" not in environ or "WORLD_SIZE" not in environ or "MASTER_ADDR" not in environ:
        return None
    return TorchrunEnvironment(
        rank=_number(environ, "RANK"),
        world_size=_number(environ, "WORLD_SIZE"),
        local_rank=_number(environ, "LOCAL_RANK") if "LOCAL_RANK" in environ else 0,
    )


def read_master(environ: Mapping[str, str]) -> tuple[str, int]:
    """Return host and port of the TCP store at which torchrun's world meets.

    Raises:
        UsageError: A variable is missing or is no number.
    """
    return _text(environ, "MASTER_ADDR"), _number(environ, "MASTER_PORT")


def _text(environ: Mapping[str, str], name: str) -> str:
    if name not in environ:
        raise UsageError(
            f"the environment variable {name} is not set",
            hint="start workers with eflaunch, or unset EFLIB_WORKER to run without an agent",
        )
    return environ[name]


def _number(environ: Mapping[str, str], name: str) -> int:
    text = _text(environ, name)
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            f"the environment variable {name} must be an integer, got {text!r}"
        ) from None
