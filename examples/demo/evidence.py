"""What the workers' own records prove: who trained when, and on which samples. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eflib.launcher.documents import Document

Claim = tuple[str, bool]


@dataclass(frozen=True)
class JobSheet:
    """One job that has ended, with its records.

    Attributes:
        status: Its last status document.
        asked: The deadline, as it was typed.
        launched: When its command was typed, in seconds since the epoch.
        lines: The audit: a line for each committed step and worker.
        dataset_size: Samples in an epoch; None if it trained for less than one.
    """

    name: str
    status: Document
    asked: str
    launched: float
    batch_size: int
    lines: list[dict[str, Any]]
    dataset_size: int | None = None

    @property
    def seconds(self) -> float:
        """From its command to its end."""
        return float(self.status["ended"]) - self.launched

    @property
    def slack(self) -> float:
        """How long before its deadline the job ended, in seconds."""
        return float(self.status["deadline"] - self.status["ended"])

    @cached_property
    def workers(self) -> dict[int, set[int]]:
        """Process ids by generation, for the generations that committed a step."""
        found: dict[int, set[int]] = defaultdict(set)
        for line in self.lines:
            found[line["generation"]].add(line["pid"])
        return dict(sorted(found.items()))

    @property
    def sizes(self) -> list[int]:
        """Number of workers of each generation, in order."""
        return [len(pids) for pids in self.workers.values()]

    @property
    def throughout(self) -> list[int]:
        """The processes that trained in every generation."""
        return sorted(set.intersection(*self.workers.values())) if self.workers else []

    @property
    def num_epochs(self) -> int:
        """Epochs that were begun."""
        return 1 + max((epoch for epoch, _ in self._samples()), default=-1)

    @property
    def has_kept_workers(self) -> bool:
        """True if at each change of size the smaller set of processes is within the larger."""
        sets = list(self.workers.values())
        return all(a <= b or b <= a for a, b in pairwise(sets))

    @property
    def has_whole_steps(self) -> bool:
        """True if each step up to the last was committed once, with a whole batch."""
        counts: Counter[int] = Counter()
        for line in self.lines:
            counts[line["step"]] += len(line["samples"])
        wanted = dict.fromkeys(range(int(self.status["global_step"])), self.batch_size)
        return bool(wanted) and dict(counts) == wanted

    @property
    def has_each_sample_once(self) -> bool:
        """True if no epoch has a sample twice, and each epoch but the last has all."""
        seen = Counter(self._samples())
        if any(count > 1 for count in seen.values()):
            return False
        whole = {
            (epoch, index)
            for epoch in range(self.num_epochs - 1)
            for index in range(self.dataset_size or 0)
        }
        is_known = self.dataset_size is not None or self.num_epochs == 1
        return is_known and whole <= set(seen)

    def _samples(self) -> Iterable[tuple[int, int]]:
        return ((epoch, index) for line in self.lines for epoch, index in line["samples"])


def claims(sheets: list[JobSheet]) -> list[Claim]:
    """Return what the demo says of its jobs, each with whether the records bear it out.

    Args:
        sheets: The job that shrinks, then the one that it makes room for.
    """
    first, second = sheets
    sizes = first.sizes
    shrank = bool(sizes) and min(sizes) < sizes[0]
    grew = shrank and sizes[-1] > min(sizes)
    found = [
        (f"{first.name} began on all 4 slots", sizes[:1] == [4]),
        (f"{first.name} shrank for {second.name} and grew back ({_arrows(sizes)})", grew),
    ]
    for sheet in sheets:
        pids = " and ".join(str(pid) for pid in sheet.throughout)
        kept = sheet.has_kept_workers and bool(pids)
        epochs = "every epoch had each sample once" if sheet.dataset_size else "no sample twice"
        found += [
            (f"{sheet.name} met its deadline", sheet.slack >= 0),
            (f"{sheet.name}: processes {pids} trained from the first step to the last", kept),
            (f"{sheet.name}: every step had {sheet.batch_size} samples", sheet.has_whole_steps),
            (f"{sheet.name}: {epochs}", sheet.has_each_sample_once),
        ]
    return found


def _arrows(sizes: list[int]) -> str:
    return " -> ".join(str(size) for size in sizes) or "no step was recorded"
