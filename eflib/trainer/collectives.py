"""All collective operations of the trainer, and the one error that says that a peer is lost.

Which error means that is told by where it came up, never by its words: in the wait of a transfer
that torch had accepted, in the start of a transfer as one of torch's own errors for connections, or
in a call to the store at which ranks meet. Whatever else a step raises is the worker's own error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_Result = TypeVar("_Result")

_OWN_ERRORS = (torch.OutOfMemoryError, torch.AcceleratorError)
"""What a wait may raise that no peer has caused: this worker's device is at fault."""
_TRANSFER_MODULES = "torch.distributed."
_OPERATORS = type(torch.ops).__module__
"""Where torch calls its compiled operators: the frame before it says what for."""


class PeerLostError(Exception):
    """Ranks could not exchange something: the only error that leads to recovery.

    It holds no other exception, since its frames would keep the group's connections open, by whose
    closing other ranks learn of the loss.
    """


class Transfer:
    """A collective operation that torch has accepted and that may be on its way.

    Args:
        work: What torch returned; None where it was done at once.
    """

    def __init__(self, work: dist.Work | None) -> None:
        self._work = work

    def wait(self) -> None:
        """Wait until it is done.

        Raises:
            PeerLostError: It failed on its way.
        """
        work, self._work = self._work, None
        if work is not None:
            from_peers(work.wait)


def from_peers(call: Callable[[], _Result]) -> _Result:
    """Call what can fail for no other reason than that a peer, or its store, is gone.

    Raises:
        PeerLostError: It failed.
    """
    try:
        return call()
    except _OWN_ERRORS:
        raise
    except RuntimeError as error:
        problem = first_words(error)
    raise PeerLostError(problem)  # outside the handler, and so without its exception


def _start(call: Callable[[], dist.Work | None]) -> Transfer:
    """Start a transfer; what torch refuses is an error of this worker, unless it is a connection's.

    Raises:
        PeerLostError: The group's connections are gone already.
    """
    try:
        return Transfer(call())
    except dist.DistError as error:
        problem = first_words(error)
    raise PeerLostError(problem)


def came_from_transfer(error: BaseException | None) -> bool:
    """Tell whether an error came up in a transfer of torch's own, as FSDP2 makes them in a pass.

    Such a pass is the script's, but for the exchange of parameters and gradients in it. That is in
    torch's package for distributed training, and the error's innermost frame with it.

    Args:
        error: With its traceback; None counts as no error.
    """
    if isinstance(error, (PeerLostError, dist.DistError)):
        return True
    if not isinstance(error, RuntimeError) or isinstance(error, _OWN_ERRORS):
        return False
    innermost, trace = "", error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module != _OPERATORS:
            innermost = module
        trace = trace.tb_next
    return innermost.startswith(_TRANSFER_MODULES)


def first_words(error: BaseException) -> str:
    """Return what an error says, in one line, without torch's place in its source."""
    words = str(error).partition(". This is typically")[0]
    lines = (words.partition("] ")[2] or words).splitlines()
    return lines[0] if lines else "no reason given"


# Operations; each may raise PeerLostError -------------------------------------------------------


def start_all_reduce(tensor: torch.Tensor) -> Transfer:
    """Start to sum a tensor over all ranks, in place."""
    return _start(lambda: dist.all_reduce(tensor, async_op=True))


def all_reduce(tensor: torch.Tensor, *, largest: bool = False) -> None:
    """Sum a tensor over all ranks, in place; or take the largest values."""
    operation = dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM
    _start(lambda: dist.all_reduce(tensor, operation, async_op=True)).wait()


def start_broadcast(tensor: torch.Tensor, source: int) -> Transfer:
    """Start to send one rank's tensor to all, in place."""
    return _start(lambda: dist.broadcast(tensor, src=source, async_op=True))


def broadcast(tensor: torch.Tensor, source: int) -> None:
    """Send one rank's tensor to all, in place."""
    start_broadcast(tensor, source).wait()


def gather(row: torch.Tensor, target: int) -> list[torch.Tensor] | None:
    """Bring the rows of all ranks to one; None on the others."""
    is_target = dist.get_rank() == target
    rows = [torch.empty_like(row) for _ in range(dist.get_world_size())] if is_target else None
    _start(lambda: dist.gather(row, rows, dst=target, async_op=True)).wait()
    return rows


def all_to_all(
    received: torch.Tensor,
    sent: torch.Tensor,
    *,
    received_sizes: Sequence[int],
    sent_sizes: Sequence[int],
) -> None:
    """Send each rank its part of a tensor.

    Args:
        received: Filled with the parts from all ranks, in their order.
        sent: The parts for all ranks, in their order.
        received_sizes: How many elements come from each rank.
        sent_sizes: How many go to each.
    """
    _start(
        lambda: dist.all_to_all_single(
            received,
            sent,
            output_split_sizes=list(received_sizes),
            input_split_sizes=list(sent_sizes),
            async_op=True,
        )
    ).wait()


def gather_rows(row: torch.Tensor) -> list[torch.Tensor]:
    """Return the rows of all ranks, in order."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [row]
    rows = [torch.empty_like(row) for _ in range(dist.get_world_size())]
    _start(lambda: dist.all_gather(rows, row, async_op=True)).wait()
    return rows


def gather_text(text: str) -> list[str]:
    """Return the texts of all ranks, in order."""
    data = _as_bytes(text)
    sizes = [int(row[0]) for row in gather_rows(torch.tensor([data.numel()]))]
    padded = torch.zeros(max(1, *sizes), dtype=torch.uint8)
    padded[: data.numel()] = data
    rows = gather_rows(padded)
    return [bytes(row[:size].tolist()).decode() for row, size in zip(rows, sizes, strict=True)]


def broadcast_text(text: str, source: int) -> str:
    """Return the text of one rank, on all."""
    data = _as_bytes(text)
    size = torch.tensor([data.numel()])
    broadcast(size, source)
    if dist.get_rank() != source:
        data = torch.empty(int(size[0]), dtype=torch.uint8)
    if int(size[0]):
        broadcast(data, source)
    return data.numpy().tobytes().decode()


def _as_bytes(text: str) -> torch.Tensor:
    """Return a text as numbers; what no text can hold, such as half a character, is replaced."""
    data = bytearray(text.encode(errors="replace"))
    return torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
