"""When checkpoints are due, who asks for them, and who writes them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from eflib.errors import CheckpointError, UsageError
from eflib.trainer.console import say
from eflib.trainer.state.owner import FolderOwner
from eflib.trainer.state.saving import CheckpointWriter

if TYPE_CHECKING:
    from eflib.trainer.state.state import TrainingState


class CheckpointSchedule:
    """The checkpoints of a run: rank 0 asks, and all ranks that hold a part write.

    Args:
        folder: Where they go; "" for none.
        seconds: Least time between two.
        keep: How many of the newest to keep.
        all_write: True when each rank writes its part; else rank 0 writes the whole.
        is_measuring: True in a profiling run, whose steps are thrown away: it writes none.
        owner: Names the job to other jobs that would use the folder; "" to let them.
    """

    def __init__(
        self,
        folder: str,
        *,
        seconds: float,
        keep: int,
        all_write: bool,
        is_measuring: bool,
        owner: str = "",
    ) -> None:
        self.folder = folder
        self._seconds = seconds
        self._all_write = all_write
        self._writes = bool(folder) and not is_measuring
        self._writer = CheckpointWriter(Path(folder), keep=keep)
        self._saved_at = time.monotonic()
        self._owner = FolderOwner(Path(folder), owner) if self._writes and owner else None

    def hold(self) -> None:
        """Keep other jobs from using the folder from now on.

        Raises:
            UsageError: Another job uses it.
        """
        if self._owner is not None:
            self._owner.take()

    def release(self) -> None:
        """Let others use the folder."""
        if self._owner is not None:
            self._owner.release()

    @property
    def is_due(self) -> bool:
        """True when rank 0 should ask for one."""
        waited = time.monotonic() - self._saved_at
        return self._writes and waited > self._seconds and not self._writer.is_writing

    @property
    def last(self) -> tuple[int, float] | None:
        """Step and moment (seconds since the epoch) of the newest one that is whole."""
        return self._writer.last

    def hasten(self) -> None:
        """Let the first one be due at once: a lost worker would need one."""
        self._saved_at -= self._seconds

    def start(self, state: TrainingState, rank: int) -> None:
        """Write one in the background, as rank 0 has asked."""
        self._saved_at = time.monotonic()
        if rank == 0 or self._all_write:
            self._writer.start(state.snapshot(), waiting=rank != 0)

    def save(self, state: TrainingState, rank: int) -> Path | None:
        """Write one now, and wait until it is whole.

        Returns:
            Its folder on rank 0; None on other ranks, and in a profiling run.

        Raises:
            UsageError: There is no checkpoint folder.
            CheckpointError: It could not be written.
        """
        if not self.folder:
            raise UsageError("there is no checkpoint folder", hint="pass checkpoint_dir=...")
        self._saved_at = time.monotonic()
        if not self._writes or (rank != 0 and not self._all_write):
            return None
        return self._writer.save(state.snapshot())

    def save_before_leaving(self, state: TrainingState, rank: int) -> bool:
        """Write one if there is a folder; return whether there now is one of this step.

        Where it cannot be written, the job comes back from the one before.
        """
        try:
            if self._writes:
                self.save(state, rank)
        except CheckpointError as error:
            say(f"{error.problem}; the job will come back from an older one")
            return False
        return self._writes

    def look(self) -> None:
        """See which checkpoint is the newest, whoever wrote it."""
        if self.folder:
            self._writer.look()

    def give_up(self) -> None:
        """Wait no longer for parts of other ranks: one of them is gone."""
        self._writer.give_up()

    def close(self) -> None:
        """Wait for what is being written, within a bound."""
        self._writer.close()
