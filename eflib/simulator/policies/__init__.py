"""Policies that a trace can be simulated under, and how to add one in a file of its own.

A policy is asked at every instant at which something happened, and answers who holds what. Put a
file ``my_policy.py`` into this folder with three names in it::

    NAME = "my-policy"                      # as in --policy; the file's name, with - and + as _
    SUMMARY = "one line for people"

    def make(shape: ClusterShape, settings: SchedulerSettings) -> Policy:
        return MyPolicy(shape, settings)

and an object with one method::

    class MyPolicy:
        def decide(self, moment: Moment) -> Decision:
            ...

* ``moment.now``: seconds of trace time. ``moment.arrived`` and ``moment.ended``: the jobs that
  came and whose work was done at this instant (ended ones have given back their GPUs already).
  ``moment.jobs``: all that are here, newcomers included, by job_id, in order of submission.
* A ``SimulatedJob`` tells the truth about a job: its row of the trace (``job.request``), its curve,
  the steps left, the GPUs it holds, the GPU-seconds it has had. Read it, never change it.
* The ``Decision`` names newcomers that are refused (they are gone then; a job not refused at its
  arrival is admitted for good), the new GPUs of each job whose GPUs change (ids ascending; empty:
  it waits; a job that is not named keeps what it holds), and when to be asked next if nothing
  happens before (None: only at arrivals and ends).
* The simulator charges ``settings.rescale_cost`` seconds without progress for each change to a
  non-empty set, and refuses (``PolicyError``) a decision that gives a GPU twice.

GPU ids are ``node * gpus_per_node + index``. To place plain counts, use
``policies.placing.Placer``: it keeps jobs where they are, gives powers of two aligned
blocks, and moves others only if there is no other way. A policy outside this folder is named as
``package.module`` of a module with the same three names.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

from eflib.errors import EflibError, UsageError
from eflib.scheduling.scaling import ScalingCurve
from eflib.scheduling.settings import SchedulerSettings
from eflib.simulator.trace import TraceJob

GpuIds = tuple[int, ...]

MAX_GPUS = 65_536
"""GPUs of the largest cluster that is simulated."""
NOT_POLICIES = frozenset({"placing"})


class PolicyError(EflibError):
    """A policy decided what cannot be carried out; a fault of the policy."""

    code = "policy"
    exit_status = 70


@dataclass(frozen=True, slots=True)
class ClusterShape:
    """Equal nodes.

    Attributes:
        nodes: How many, at least 1.
        gpus_per_node: GPUs of each, at least 1.
    """

    nodes: int
    gpus_per_node: int

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.gpus_per_node < 1:
            raise UsageError(
                f"a cluster of {self.nodes} nodes with {self.gpus_per_node} GPUs has none",
                hint="give at least one node with one GPU",
            )
        if self.num_gpus > MAX_GPUS:
            raise UsageError(
                f"a cluster of {self.num_gpus} GPUs cannot be simulated",
                hint=f"{MAX_GPUS} at most: give fewer nodes or GPUs",
            )

    @property
    def num_gpus(self) -> int:
        """GPUs in all."""
        return self.nodes * self.gpus_per_node


@dataclass(slots=True, eq=False)
class SimulatedJob:
    """One live job as it truly is; policies read it.

    Attributes:
        request: Its row of the trace.
        curve: Steps per second by GPU count.
        steps_left: Steps to do at the moment's time.
        gpus: What it holds, ids ascending.
        ready_at: Seconds of trace time at which its last rescale's pause is over.
        gpu_seconds: GPU time it has had so far, pauses included.
        started_at: When it first held GPUs; None if it never did.
        changes: How often its GPUs changed to another non-empty set, the start included.
    """

    request: TraceJob
    curve: ScalingCurve
    steps_left: float
    gpus: GpuIds = ()
    ready_at: float = 0.0
    gpu_seconds: float = 0.0
    started_at: float | None = None
    changes: int = 0

    @property
    def job_id(self) -> str:
        """Unique in the trace."""
        return self.request.job_id


@dataclass(frozen=True, slots=True)
class Moment:
    """All that a policy may know at an instant.

    Attributes:
        now: Seconds of trace time.
        arrived: Jobs submitted now, in order; they are in ``jobs`` too.
        ended: Jobs done now; they are not in ``jobs`` any more.
        jobs: Live jobs by job_id, in order of submission.
    """

    now: float
    arrived: tuple[SimulatedJob, ...]
    ended: tuple[SimulatedJob, ...]
    jobs: Mapping[str, SimulatedJob]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy wants.

    Attributes:
        gpus: New GPUs by job_id, of jobs whose GPUs change; empty: it waits.
        refused: Newcomers that may not run.
        wakeup: Seconds of trace time to be asked again at the latest; None: at the next event.
    """

    gpus: Mapping[str, GpuIds] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    wakeup: float | None = None


class Policy(Protocol):
    """Decides who holds what."""

    def decide(self, moment: Moment) -> Decision:
        """Return what should be from now on."""
        ...


Maker = Callable[[ClusterShape, SchedulerSettings], Policy]


def names() -> dict[str, str]:
    """Return a line about each policy of this folder, by name."""
    found = {}
    for module_name in _files():
        module = importlib.import_module(f"{__name__}.{module_name}")
        found[str(module.NAME)] = str(module.SUMMARY)
    return dict(sorted(found.items()))


def maker(name: str) -> Maker:
    """Return what makes a policy.

    Args:
        name: Of a policy in this folder, or the dotted path of a module elsewhere.

    Raises:
        UsageError: There is none of this name; says which there are.
    """
    file = name.replace("-", "_").replace("+", "_")
    path = f"{__name__}.{file}" if file in _files() else name if "." in name else ""
    if not path:
        raise UsageError(f"there is no policy {name!r}", hint=f"known: {', '.join(names())}")
    try:
        module = importlib.import_module(path)
    except (ImportError, TypeError, ValueError) as error:  # the last two for a path like "..x"
        raise UsageError(
            f"cannot import policy {name!r}: {error}", hint=f"known: {', '.join(names())}"
        ) from error
    if not hasattr(module, "make"):
        raise UsageError(
            f"module {path} is not a policy: it has no make(shape, settings)",
            hint=f"known: {', '.join(names())}",
        )
    return cast("Maker", module.make)


def _files() -> list[str]:
    """Return the names of the policy files in this folder."""
    found = [module.name for module in pkgutil.iter_modules(__path__)]
    return [name for name in found if not name.startswith("_") and name not in NOT_POLICIES]
