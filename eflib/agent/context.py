"""One worker's process, as torch elastic's process context.

Each worker has a context of its own, so that the end of one touches no other. Two things that
torch's context does are not for us: ``start`` takes over the agent's signal handlers, so it is
replaced; ``wait`` waits without a bound for a function that returned and prints a stack trace for a
worker that failed, so it is not called. Our entry point never returns (see ``script.finish``): the
sentinel says when a worker ended, and its exit code how.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch.distributed.elastic.multiprocessing import MultiprocessContext

from eflib.agent import worker
from eflib.agent.logs import OneAppendedLog

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from eflib.agent.order import Order
    from eflib.agent.pool import WarmPool

LOST = 255
"""What multiprocessing reports for a worker whose pool was killed: it cannot know better."""


class WorkerContext(MultiprocessContext):
    """One worker's process.

    Args:
        order: What it runs.
        start_method: ``forkserver`` or ``spawn``.
    """

    def __init__(self, order: Order, start_method: str) -> None:
        super().__init__(
            name=order.worker,
            entrypoint=worker.main,
            args={0: (order,)},
            envs={0: dict(order.environment)},
            start_method=start_method,
            logs_specs=OneAppendedLog(order.log, order.error_file),
        )
        self.order = order

    def start(self) -> None:
        """Start the process, leaving the agent's signal handlers alone."""
        self._start()  # type: ignore[no-untyped-call]

    @property
    def pid(self) -> int:
        """The worker's process, session and process group."""
        return self.pids()[0]

    @property
    def sentinel(self) -> int:
        """A file descriptor that becomes readable when the worker has ended."""
        return self._process.sentinel

    @property
    def exitcode(self) -> int | None:
        """None while it runs; negative for a signal; ``LOST`` also if the pool died."""
        return self._process.exitcode

    def release(self) -> None:
        """Let go of what the parent holds of an ended worker."""
        self._process.close()

    @property
    def _process(self) -> BaseProcess:
        if self._pc is None:
            raise ValueError(f"worker {self.order.worker} has not been started")
        process: BaseProcess = self._pc.processes[0]
        return process


def start(order: Order, pool: WarmPool) -> WorkerContext:
    """Start a worker out of the pool.

    Raises:
        OSError: The log cannot be written.
        PoolDiedError: The pool died; the worker has not run.
    """
    with pool.starting() as parent:
        context = WorkerContext(replace(order, parent=parent), pool.start_method)
        context.start()
    return context
