"""Measured curves of scripts, in the cluster's own folder: found again by what was measured.

The key of a curve is the script's name, the signature of the model, the global batch size and the
kind of device; that of a CPU says how many cores there are.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

from eflib import profiles
from eflib.errors import UsageError
from eflib.profiler.fit import Observation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from eflib.profiler.fit import Guess


LONGEST_PART = 80
"""Characters of a part of a file's name: file systems end a whole name at 255 bytes."""


class Announced(Protocol):
    """What a script's trainer says of itself, as far as a curve depends on it."""

    @property
    def model(self) -> str:
        """A signature of the model's state."""

    @property
    def model_name(self) -> str:
        """The model's class."""

    @property
    def num_parameters(self) -> int | None:
        """How many the model has."""

    @property
    def global_batch_size(self) -> int:
        """Samples of a step, over all workers."""

    @property
    def device(self) -> str:
        """The GPU's name, or the number of cores."""

    @property
    def threads(self) -> int | None:
        """Threads of a worker."""


class CurveLibrary:
    """The folder of measured curves.

    Args:
        folder: Where the files lie; made when the first one is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has_script(self, script: str) -> bool:
        """Tell whether any curve of a script is known, whatever its model and batch size."""
        return any(self._folder.glob(f"{_stem(script)}-*.json"))

    def find(self, script: str, announce: Announced) -> dict[int, Observation] | None:
        """Return what was measured by world size, or None; a file that is no profile is None."""
        file = self._file(script, announce)
        if not file.exists():
            return None
        try:
            found = profiles.read(file)
        except UsageError:
            return None
        return {
            size: Observation(
                rate,
                found.spread.get(size),
                found.cpu_seconds.get(size),
                found.memory_bytes.get(size),
            )
            for size, rate in found.points.items()
        }

    def keep(
        self,
        script: str,
        announce: Announced,
        observed: Mapping[int, Observation],
        guessed: Mapping[int, Guess],
    ) -> Path:
        """Write a curve, with the date and how it was made.

        Args:
            script: Path or module.
            announce: What the script's trainer said of itself.
            observed: What was measured, by world size.
            guessed: What follows from it at other sizes; marked as extrapolated.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._file(script, announce)
        profile = profiles.Profile(
            model=announce.model_name or _stem(script),
            device=announce.device,
            points={size: one.steps_per_s for size, one in sorted(observed.items())},
            global_batch_size=announce.global_batch_size,
            source=f"measured by eflib on {_stem(script)}",
            measured_at=datetime.now(tz=timezone.utc).isoformat(timespec="seconds"),
            spread=_known(observed, "spread"),
            cpu_seconds=_known(observed, "cpu_s"),
            memory_bytes=_known(observed, "memory_bytes"),
            extrapolated={n: (one.steps_per_s, one.margin) for n, one in guessed.items()},
            details={
                "script": script,
                "signature": announce.model,
                "num_parameters": announce.num_parameters,
                "threads": announce.threads,
            },
        )
        temporary = file.with_suffix(".writing")
        text = json.dumps(profiles.to_json(profile), indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(file)
        return file

    def _file(self, script: str, announce: Announced) -> Path:
        signature = re.sub(r"[^A-Za-z0-9]+", "_", announce.model)[:12]
        batch = announce.global_batch_size
        device = re.sub(r"[^A-Za-z0-9._-]+", "_", announce.device)[:LONGEST_PART]
        return self._folder / f"{_stem(script)}-{signature}-{batch}-{device}.json"


def _known(observed: Mapping[int, Observation], name: str) -> dict[int, float]:
    """Return one of the details by world size; sizes where it is not known are left out."""
    return {n: one.details[name] for n, one in sorted(observed.items()) if name in one.details}


def _stem(script: str) -> str:
    name = script.replace("\\", "/").rpartition("/")[2].removesuffix(".py")
    return re.sub(r"[^A-Za-z0-9._]+", "_", name)[:LONGEST_PART] or "script"
