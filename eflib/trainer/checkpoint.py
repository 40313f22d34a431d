"""Checkpoints on disk: written beside, synced, renamed; a torn one is never taken for whole."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from eflib.trainer.tree import unflatten

if TYPE_CHECKING:
    from eflib.trainer.state import TrainingState

MANIFEST = "manifest.json"
STATE = "state.pt"
FORMAT = 1


def save(folder: Path, state: TrainingState, *, keep: int = 2) -> Path:
    """Write the state at its step and keep the newest few.

    Returns:
        The checkpoint's folder, ``step-<number>``; it exists only when it is whole.
    """
    final = folder / f"step-{state.global_step:010d}"
    if is_whole(final):
        return final
    temporary = folder / f".{final.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    skeleton, tensors = state.capture()
    cpu = [tensor.detach().cpu() for tensor in tensors]
    with (temporary / STATE).open("wb") as file:
        torch.save({"skeleton": skeleton, "tensors": cpu}, file)
        _sync(file.fileno())
    manifest = {
        "format": FORMAT,
        "global_step": state.global_step,
        "signature": state.signature(),
        "bytes": (temporary / STATE).stat().st_size,
        "crc32": _crc32(temporary / STATE),
    }
    with (temporary / MANIFEST).open("w") as text:
        json.dump(manifest, text, indent=1)
        text.flush()
        _sync(text.fileno())
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _sync_folder(folder)
    _prune(folder, final, keep)
    return final


def _prune(folder: Path, final: Path, keep: int) -> None:
    """Keep what was just saved and the newest before it; later ones are torn, or they had held."""
    older = [one for one in _candidates(folder) if one.name < final.name]
    torn = [one for one in _candidates(folder) if one.name > final.name and not is_whole(one)]
    for old in older[keep - 1 :] + torn:
        shutil.rmtree(old, ignore_errors=True)


def newest(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, or None; a torn one is named on stderr and skipped."""
    for candidate in _candidates(folder):
        if is_whole(candidate):
            return candidate
        print(f"[eflib] skipped the torn checkpoint {candidate}", file=sys.stderr)  # noqa: T201
    return None


def load(checkpoint: Path) -> dict[str, Any]:
    """Read a checkpoint into a tree for ``TrainingState.restore``."""
    saved = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    tree = unflatten(saved["skeleton"], saved["tensors"])
    return dict(tree)


def is_whole(checkpoint: Path) -> bool:
    """True when the manifest is there and the state's size and checksum are what it says."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text())
        state = checkpoint / STATE
        return bool(
            manifest["format"] == FORMAT
            and manifest["bytes"] == state.stat().st_size
            and manifest["crc32"] == _crc32(state)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _candidates(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def _crc32(file: Path) -> int:
    value = 0
    with file.open("rb") as data:
        while part := data.read(1 << 20):
            value = zlib.crc32(part, value)
    return value


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
