"""Which workers hang: judged from their pulses, without a process or a clock.

A worker that gives no sign of life and uses no processor time is frozen (SIGSTOP, a stuck system
call); one that holds Python's lock for long gives no sign either, but computes. A worker whose
signs come while one step takes longer than its bound hangs in that step. Nobody is judged by time
in which the agent itself did not run: after a pause all begin anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eflib.agent.timeouts import SILENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eflib.pulse import Sign

_PAUSE = 0.5  # share of the silence: when the agent looks away for longer, it was away itself
SILENT = "silent"
STEP = "step"


@dataclass(frozen=True)
class Hang:
    """Why a worker counts as hung.

    Attributes:
        kind: ``silent`` or ``step``.
        reason: The same in words; equal for equal faults.
    """

    kind: str
    reason: str


class Watch:
    """Judges the pulses of a node's workers; to be asked about once a second.

    Args:
        silence: How long a worker may give no sign of life, in seconds.
    """

    def __init__(self, silence: float = SILENCE_SECONDS) -> None:
        self._silence = silence
        self._looked = float("-inf")
        self._begin = 0.0
        self._used: dict[str, float] = {}

    def look(
        self, now: float, signs: Mapping[str, Sign | None], used: Callable[[str], float]
    ) -> dict[str, Hang]:
        """Return the workers that hang.

        Args:
            now: CLOCK_MONOTONIC, in seconds.
            signs: By worker, what its pulse says; None before its first beat.
            used: Returns the processor time that a worker has used, in seconds.
        """
        if now - self._looked > _PAUSE * self._silence:
            self._begin = now
            self._used.clear()
        self._looked = now
        found = {}
        for worker, sign in signs.items():
            hang = self._judge(worker, sign, now, used) if sign is not None else None
            if hang is not None:
                found[worker] = hang
        for worker in set(self._used) - set(signs):
            del self._used[worker]
        return found

    def _judge(
        self, worker: str, sign: Sign, now: float, used: Callable[[str], float]
    ) -> Hang | None:
        if sign.since and sign.bound and now - max(sign.since, self._begin) > sign.bound:
            return Hang(STEP, f"hung: computed in one step for more than {sign.bound:g} s")
        if now - max(sign.beat, self._begin) <= self._silence:
            self._used.pop(worker, None)
            return None
        before, spent = self._used.get(worker), used(worker)
        self._used[worker] = spent
        if before is None or spent > before:
            return None
        return Hang(SILENT, f"hung: gave no sign of life for {self._silence:g} s")
