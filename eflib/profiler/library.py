"""Measured curves of scripts, in the cluster's own folder: found again by what was measured.

The key of a curve is the script's name, the signature of the model, the global batch size and the
kind of device.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from eflib import profiles
from eflib.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


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

    def find(self, script: str, announce: dict[str, Any]) -> dict[int, float] | None:
        """Return steps per second by world size, or None; a file that is no profile is None."""
        file = self._file(script, announce)
        if not file.exists():
            return None
        try:
            return dict(profiles.read(file).points)
        except UsageError:
            return None

    def keep(
        self,
        script: str,
        announce: dict[str, Any],
        points: dict[int, float],
        spread: dict[int, float],
    ) -> Path:
        """Write a curve, with the date and how it was made."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._file(script, announce)
        profile = profiles.Profile(
            model=str(announce.get("model_name") or _stem(script)),
            device=str(announce.get("device") or ""),
            points=dict(sorted(points.items())),
            global_batch_size=int(announce["global_batch_size"]),
            source=f"measured by eflib on {_stem(script)}",
            measured_at=datetime.now(tz=timezone.utc).isoformat(timespec="seconds"),
            spread=spread,
            details={
                "script": script,
                "signature": announce.get("model"),
                "num_parameters": announce.get("num_parameters"),
            },
        )
        temporary = file.with_suffix(".writing")
        text = json.dumps(profiles.to_json(profile), indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(file)
        return file

    def _file(self, script: str, announce: dict[str, Any]) -> Path:
        signature = str(announce.get("model", ""))[:12]
        batch, device = announce.get("global_batch_size"), announce.get("device")
        return self._folder / f"{_stem(script)}-{signature}-{batch}-{device}.json"


def _stem(script: str) -> str:
    name = script.replace("\\", "/").rpartition("/")[2].removesuffix(".py")
    return re.sub(r"[^A-Za-z0-9._]+", "_", name) or "script"
