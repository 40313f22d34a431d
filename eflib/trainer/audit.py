"""An account of which samples each committed step used: the proof that none is lost or repeated."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from eflib.trainer.callback import Callback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eflib.trainer.trainer import ElasticTrainer


class SampleAudit(Callback):
    """Appends one JSON line per committed step and worker to ``<folder>/<pid>.jsonl``.

    Fields: ``step`` (from 0), ``rank``, ``world_size``, ``generation``, ``pid``, and ``samples``:
    pairs of epoch and data set index. Profiling runs are left out.

    Args:
        folder: Where the files go; made if it is not there.
    """

    def __init__(self, folder: str | Path) -> None:
        self._file = Path(folder) / f"{os.getpid()}.jsonl"
        self._file.parent.mkdir(parents=True, exist_ok=True)

    def on_step_end(self, trainer: ElasticTrainer) -> None:
        """Note this rank's samples of the step that was just committed."""
        if trainer.profiling:
            return
        line = {
            "step": trainer.global_step - 1,
            "rank": trainer.rank,
            "world_size": trainer.world_size,
            "generation": trainer.generation,
            "pid": os.getpid(),
            "samples": trainer.batch_samples,
        }
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")


def read_audit(folder: str | Path) -> Iterator[dict[str, object]]:
    """Read all lines that the workers of a job wrote, in no order."""
    for file in sorted(Path(folder).glob("*.jsonl")):
        with file.open() as lines:
            yield from (json.loads(line) for line in lines)
