"""Checkpoints on disk: written beside, synced, renamed; what is not whole is never taken.

A checkpoint is a folder ``step-<number>``: a file of raw tensors per rank that wrote, and
``manifest.json`` with the sizes and checksums of all files, its own included.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from eflib.errors import CheckpointError
from eflib.trainer import timeouts
from eflib.trainer.state.storage import CHUNK_BYTES, Piece, read_into, write_pieces
from eflib.trainer.state.tree import names, unflatten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MANIFEST = "manifest.json"
FORMAT = 2
_FIELDS = ("global_step", "skeleton", "tensors", "files")


@dataclass(frozen=True)
class Snapshot:
    """What one rank writes of a state at its step.

    Args:
        global_step: The step.
        signature: Short name of the model's shape.
        skeleton: The state without its tensors.
        pieces: The tensors, or this rank's parts of them.
        rank: Of this worker among those that write; 0 completes the checkpoint.
        num_writers: How many ranks write.
        token: Number that all writers of one attempt share and no other attempt has.
    """

    global_step: int
    signature: str
    skeleton: str
    pieces: Sequence[Piece]
    rank: int = 0
    num_writers: int = 1
    token: int = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of the pieces."""
        return sum(one.tensor.numel() * one.tensor.element_size() for one in self.pieces)


def path_of(folder: Path, global_step: int) -> Path:
    """Return where the checkpoint of a step is, or will be."""
    return folder / f"step-{global_step:010d}"


def write(
    folder: Path, snapshot: Snapshot, *, keep: int, given_up: Callable[[], bool] = lambda: False
) -> Path | None:
    """Write a rank's part; on rank 0 wait for those of the others and complete the checkpoint.

    Args:
        folder: Where checkpoints are; all ranks that write see the same.
        snapshot: What to write.
        keep: How many of the newest to keep.
        given_up: True once the parts of other ranks may not come any more.

    Returns:
        The checkpoint's folder on rank 0, where it is whole now; None on others.

    Raises:
        OSError: A file could not be written.
        CheckpointError: Not all ranks wrote their part.
    """
    final = path_of(folder, snapshot.global_step)
    if why_torn(final) is None:
        return final
    owner = snapshot.token or os.getpid()
    temporary = folder / f".{final.name}.{owner:x}"
    if snapshot.num_writers == 1:
        shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True, exist_ok=True)
    part = write_pieces(temporary, f"rank-{snapshot.rank}.bin", snapshot.pieces)
    if snapshot.num_writers > 1:
        _write_json(temporary / f".part-{snapshot.rank}.new", part)
        (temporary / f".part-{snapshot.rank}.new").rename(_part(temporary, snapshot.rank))
        if snapshot.rank != 0:
            return None
        part = _gather_parts(temporary, snapshot, given_up)
    manifest = {
        "format": FORMAT,
        "global_step": snapshot.global_step,
        "signature": snapshot.signature,
        "skeleton": snapshot.skeleton,
        **part,
    }
    manifest["crc32"] = _crc32_of(manifest)
    _write_json(temporary / MANIFEST, manifest)
    _sync_folder(temporary)
    shutil.rmtree(final, ignore_errors=True)  # a torn one of the same step
    temporary.rename(final)
    _sync_folder(folder)
    _prune(folder, final, keep)
    return final


def _part(temporary: Path, rank: int) -> Path:
    return temporary / f".part-{rank}.json"


def _gather_parts(
    temporary: Path, snapshot: Snapshot, given_up: Callable[[], bool]
) -> dict[str, Any]:
    """Wait for the parts of all ranks; they are told by files, as writers share nothing else."""
    end = time.monotonic() + timeouts.CHECKPOINT_PARTS
    waiting = list(range(snapshot.num_writers))
    while waiting := [rank for rank in waiting if not _part(temporary, rank).exists()]:
        if given_up() or time.monotonic() > end:
            raise CheckpointError(
                f"the parts of ranks {waiting} of the checkpoint of step {snapshot.global_step} "
                f"did not come to {temporary}",
                hint="with parallel='fsdp' all workers must see the same checkpoint folder",
            )
        time.sleep(0.01)
    merged: dict[str, Any] = {"tensors": {}, "files": {}}
    for rank in range(snapshot.num_writers):
        part = json.loads(_part(temporary, rank).read_text())
        _part(temporary, rank).unlink()
        merged["files"].update(part["files"])
        for name, entry in part["tensors"].items():
            known = merged["tensors"].setdefault(name, {**entry, "chunks": []})
            known["chunks"] += entry["chunks"]
    return merged


def _prune(folder: Path, final: Path, keep: int) -> None:
    """Keep what was just saved and the newest before it; later ones are torn, or they had held."""
    older = [one for one in _candidates(folder) if one.name < final.name]
    torn = [one for one in _candidates(folder) if one.name > final.name and why_torn(one)]
    for old in older[keep - 1 :] + torn:
        shutil.rmtree(old, ignore_errors=True)


def clean(folder: Path) -> None:
    """Delete what writers left that were killed; only while nobody writes there."""
    for leftover in folder.glob(".step-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def newest(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, or None; others are named on stderr and skipped."""
    for candidate in _candidates(folder):
        why = why_torn(candidate)
        if why is None:
            return candidate
        print(f"[eflib] skipped the checkpoint {candidate}: {why}", file=sys.stderr, flush=True)  # noqa: T201 - a worker's log is its stderr
    return None


def last(folder: Path) -> tuple[int, float] | None:
    """Return step and moment (seconds since the epoch) of the newest one; nothing is read."""
    for candidate in _candidates(folder):
        with suppress(OSError, ValueError):
            saved_at = (candidate / MANIFEST).stat().st_mtime
            return int(candidate.name.removeprefix("step-")), saved_at
    return None


def load(checkpoint: Path) -> dict[str, Any]:
    """Read a whole checkpoint into a tree for ``TrainingState.restore``.

    Raises:
        CheckpointError: It cannot be read.
    """
    manifest = read_manifest(checkpoint)
    targets = {
        name: torch.empty(entry["size"], dtype=getattr(torch, entry["dtype"]))
        for name, entry in manifest["tensors"].items()
    }
    read_into(checkpoint, manifest, targets)
    skeleton = manifest["skeleton"]
    tree = unflatten(skeleton, [targets[name] for name in names(skeleton)])
    return dict(tree)


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint.

    Raises:
        CheckpointError: There is none that can be read.
    """
    manifest, why = _read_manifest(checkpoint)
    if manifest is None:
        raise CheckpointError(f"the checkpoint {checkpoint} cannot be read: {why}")
    return manifest


def why_torn(checkpoint: Path) -> str | None:
    """Return why a checkpoint is not whole, or None if it is: every byte is checked."""
    manifest, why = _read_manifest(checkpoint)
    if manifest is None:
        return why
    for name, entry in manifest["files"].items():
        file = checkpoint / name
        try:
            size = file.stat().st_size
            if size != entry["bytes"]:
                return f"{name} has {size} bytes, not {entry['bytes']}"
            if _crc32(file) != entry["crc32"]:
                return f"{name} does not match its checksum"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def _read_manifest(checkpoint: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the manifest, or None and why; what passes is safe to act upon."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text())
    except OSError as error:
        return None, f"{MANIFEST} cannot be read ({error.strerror})"
    except ValueError:
        return None, f"{MANIFEST} is not JSON"
    why = _why_unsafe(manifest)
    return (None, why) if why else (manifest, "")


def _why_unsafe(manifest: Any) -> str:  # noqa: ANN401 - what a file holds
    """Return what speaks against acting upon a manifest; "" if nothing does."""
    if not isinstance(manifest, dict) or "format" not in manifest:
        return f"{MANIFEST} does not say its format"
    if manifest["format"] != FORMAT:
        return f"it is of format {manifest['format']!r}; this eflib reads format {FORMAT}"
    if manifest.pop("crc32", None) != _crc32_of(manifest):
        return f"{MANIFEST} does not match its checksum"
    if any(field not in manifest for field in _FIELDS):
        return f"{MANIFEST} lacks a field"
    return _what_leads_outside(manifest)


def _what_leads_outside(manifest: dict[str, Any]) -> str:
    """Return what would lead outside the checkpoint's folder or its files; "" if nothing does."""
    files = manifest["files"]
    for name in files:
        if Path(name).name != name:
            return f"{MANIFEST} names the file {name!r}"
    for name, entry in manifest["tensors"].items():
        if not isinstance(getattr(torch, str(entry["dtype"]), None), torch.dtype):
            return f"{name} has the unknown dtype {entry['dtype']!r}"
        for chunk in entry["chunks"]:
            of = files.get(chunk["file"], {"bytes": -1})
            if not 0 <= chunk["at"] <= chunk["at"] + chunk["bytes"] <= of["bytes"]:
                return f"{name} lies outside {chunk['file']!r}"
    return ""


def _candidates(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def _crc32_of(manifest: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())


def _crc32(file: Path) -> int:
    value = 0
    with file.open("rb") as data:
        while part := data.read(CHUNK_BYTES):
            value = zlib.crc32(part, value)
    return value


def _write_json(file: Path, document: dict[str, Any]) -> None:
    with file.open("w") as text:
        text.write(json.dumps(document, separators=(",", ":")))
        text.flush()
        os.fsync(text.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
