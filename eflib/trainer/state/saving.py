"""Writes checkpoints from a thread beside training: at most one at a time."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from eflib.errors import CheckpointError, EflibError
from eflib.trainer import timeouts
from eflib.trainer.console import say
from eflib.trainer.state import checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eflib.trainer.state.checkpoint import Snapshot
    from eflib.trainer.state.storage import Piece


class CheckpointWriter:
    """Copies the state at a step boundary, and writes the copy while training goes on.

    The copy lives in buffers that are kept for the next time: a worker that saves holds its part of
    the state once more in the memory of its host.

    Args:
        folder: Where checkpoints go.
        keep: How many of the newest to keep.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self._folder = folder
        self._keep = keep
        self._buffers: list[torch.Tensor] = []
        self._thread: threading.Thread | None = None
        self._given_up = threading.Event()
        self._error: Exception | None = None
        self._written: Path | None = None
        self.last: tuple[int, float] | None = None
        self.held_s = 0.0
        self.write_s = 0.0
        self.num_bytes = 0

    @property
    def is_writing(self) -> bool:
        """True while a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def look(self) -> None:
        """See which checkpoint is the newest, whoever wrote it."""
        self.last = checkpoint.last(self._folder)

    def start(self, snapshot: Snapshot, *, waiting: bool = False, quietly: bool = False) -> bool:
        """Copy the snapshot's tensors, and write them in the background.

        What goes wrong is told in one line of the log; training goes on, and the next one is tried
        when it is due.

        Args:
            snapshot: What to write.
            waiting: Wait for the one before to be written, within a bound.
            quietly: Keep an error for ``save``, which raises it.

        Returns:
            False when the one before is still being written: nothing was done.
        """
        if waiting:
            self._wait(timeouts.CHECKPOINT_WRITE)
        if self.is_writing:
            return False
        self._error = None
        begin = time.perf_counter()
        copied = replace(snapshot, pieces=self._copy(snapshot.pieces))
        self.held_s = time.perf_counter() - begin
        self._given_up.clear()
        self._thread = threading.Thread(
            target=self._write,
            args=(copied,),
            kwargs={"quietly": quietly},
            name="eflib-checkpoint",
            daemon=True,
        )
        self._thread.start()
        return True

    def save(self, snapshot: Snapshot) -> Path | None:
        """Write a checkpoint now and wait for it; return its folder, None on other ranks than 0.

        Raises:
            CheckpointError: It could not be written.
        """
        is_started = self.start(snapshot, waiting=True, quietly=True)
        if not is_started or not self._wait(timeouts.CHECKPOINT_WRITE):
            raise CheckpointError(
                f"a checkpoint in {self._folder} took over {timeouts.CHECKPOINT_WRITE:g} s"
            )
        error, self._error = self._error, None
        if error is not None:
            raise CheckpointError(
                f"the checkpoint of step {snapshot.global_step} could not be written to "
                f"{self._folder}: {_words(error)}"
            ) from error
        return self._written

    def give_up(self) -> None:
        """Wait no longer for parts of other ranks: one of them is gone."""
        self._given_up.set()
        self.close()

    def close(self) -> None:
        """Wait for what is being written, within a bound."""
        if not self._wait(timeouts.CHECKPOINT_LEAVE):
            say(
                f"a checkpoint was still being written to {self._folder} after "
                f"{timeouts.CHECKPOINT_LEAVE:g} s; it is left as it is, and will be skipped"
            )

    def _wait(self, seconds: float) -> bool:
        if self._thread is not None:
            self._thread.join(timeout=seconds)
        return not self.is_writing

    def _write(self, snapshot: Snapshot, *, quietly: bool) -> None:
        begin = time.perf_counter()
        self._written = None
        try:
            self._written = checkpoint.write(
                self._folder, snapshot, keep=self._keep, given_up=self._given_up.is_set
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, training goes on
            self._error = error
            if not quietly:
                say(
                    f"a checkpoint could not be written to {self._folder}: {_words(error)}; "
                    "training continues"
                )
            return
        self.write_s = time.perf_counter() - begin
        self.num_bytes = snapshot.num_bytes
        self.last = (snapshot.global_step, time.time())

    def _copy(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Copy all tensors to the host; the buffers of the time before are used again."""
        kept, self._buffers = self._buffers, []
        on_gpu = False
        for place, piece in enumerate(pieces):
            tensor = piece.tensor.detach()
            on_gpu = on_gpu or tensor.is_cuda
            buffer = kept[place] if place < len(kept) else None
            if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            buffer.copy_(tensor, non_blocking=True)
            self._buffers.append(buffer)
        if on_gpu:
            torch.cuda.synchronize()
        return [one.with_tensor(copy) for one, copy in zip(pieces, self._buffers, strict=True)]


def _words(error: Exception) -> str:
    return error.problem if isinstance(error, EflibError) else f"{type(error).__name__}: {error}"
