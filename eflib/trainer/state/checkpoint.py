"""Checkpoints on disk: written beside, synced, renamed; what is not whole is never taken.

A checkpoint is a folder ``step-<number>``: a file of raw tensors per rank that wrote, and
``manifest.json`` with the sizes and checksums of all files, its own included. An attempt that fails
leaves nothing behind, so that a full disk is not kept full by it.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from eflib.errors import CheckpointError
from eflib.trainer import timeouts
from eflib.trainer.console import say
from eflib.trainer.state.manifest import (
    FORMAT,
    MANIFEST,
    Manifest,
    Part,
    UnreadableError,
    decode_part,
    encode,
    encode_part,
    is_foreign,
    parse,
    read_manifest,
)
from eflib.trainer.state.storage import CHUNK_BYTES, Piece, read_into, write_pieces
from eflib.trainer.state.tree import names, unflatten_state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NAME = re.compile(r"step-(\d{10,18})")


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
        OSError: A file could not be written; what was written of this attempt is gone.
        CheckpointError: Not all ranks wrote their part, or another version of eflib has written
            the checkpoint of this step.
    """
    final = path_of(folder, snapshot.global_step)
    if is_foreign(final):
        raise CheckpointError(
            f"{final} was written by another version of eflib",
            hint="choose another checkpoint_dir, or move that one away",
        )
    if why_torn(final) is None:
        return final
    owner = snapshot.token or os.getpid()
    temporary = folder / f".{final.name}.{owner:x}"
    if snapshot.num_writers == 1:
        shutil.rmtree(temporary, ignore_errors=True)
    try:
        part = _write_part(temporary, snapshot, given_up)
        if snapshot.rank != 0:
            return None
        _complete(temporary, final, snapshot, part)
    except BaseException:
        _discard(temporary, snapshot)
        raise
    _prune(folder, final, keep)
    return final


def _write_part(temporary: Path, snapshot: Snapshot, given_up: Callable[[], bool]) -> Part:
    """Write this rank's tensors; on rank 0 return the parts of all ranks."""
    temporary.mkdir(parents=True, exist_ok=True)
    part = write_pieces(temporary, f"rank-{snapshot.rank}.bin", snapshot.pieces)
    if snapshot.num_writers > 1:
        new = temporary / f".part-{snapshot.rank}.new"
        _write(new, encode_part(part))
        new.rename(_part(temporary, snapshot.rank))
        if snapshot.rank == 0:
            return _gather_parts(temporary, snapshot, given_up)
    return part


def _complete(temporary: Path, final: Path, snapshot: Snapshot, part: Part) -> None:
    """Make a checkpoint of what all ranks wrote."""
    manifest = Manifest(
        FORMAT,
        snapshot.global_step,
        snapshot.signature,
        snapshot.skeleton,
        part.tensors,
        part.files,
    )
    _write(temporary / MANIFEST, encode(manifest))
    _sync_folder(temporary)
    shutil.rmtree(final, ignore_errors=True)  # a torn one of the same step
    temporary.rename(final)
    _sync_folder(final.parent)


def _discard(temporary: Path, snapshot: Snapshot) -> None:
    """Delete what is left of an attempt that failed; tell rank 0 if it waits for this part."""
    if snapshot.rank == 0:
        shutil.rmtree(temporary, ignore_errors=True)
        return
    for name in (f"rank-{snapshot.rank}.bin", f".part-{snapshot.rank}.new"):
        with suppress(OSError):
            (temporary / name).unlink()
    with suppress(OSError):
        _failure(temporary, snapshot.rank).touch()


def _part(temporary: Path, rank: int) -> Path:
    return temporary / f".part-{rank}.json"


def _failure(temporary: Path, rank: int) -> Path:
    return temporary / f".part-{rank}.failed"


def _gather_parts(temporary: Path, snapshot: Snapshot, given_up: Callable[[], bool]) -> Part:
    """Wait for the parts of all ranks; they are told by files, as writers share nothing else."""
    end = time.monotonic() + timeouts.CHECKPOINT_PARTS
    waiting = list(range(snapshot.num_writers))
    while waiting := [rank for rank in waiting if not _part(temporary, rank).exists()]:
        has_failed = any(_failure(temporary, rank).exists() for rank in waiting)
        if has_failed or given_up() or time.monotonic() > end:
            raise CheckpointError(
                f"the parts of ranks {waiting} of the checkpoint of step {snapshot.global_step} "
                f"did not come to {temporary}",
                hint="with parallel='fsdp' all workers must see the same checkpoint folder",
            )
        time.sleep(0.01)
    merged = Part({}, {})
    for rank in range(snapshot.num_writers):
        merged = merged.joined(decode_part(_part(temporary, rank)))
        _part(temporary, rank).unlink()
    return merged


def _prune(folder: Path, final: Path, keep: int) -> None:
    """Keep what was just saved and the newest before it; later ones are torn, or they had held.

    What another version of eflib wrote is neither counted nor deleted.
    """
    own = [one for one in _candidates(folder) if not is_foreign(one)]
    older = [one for one in own if _step(one) < _step(final)]
    torn = [one for one in own if _step(one) > _step(final) and why_torn(one)]
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
        say(f"skipped the checkpoint {candidate}: {why}")
    return None


def last(folder: Path) -> tuple[int, float] | None:
    """Return step and moment (seconds since the epoch) of the newest one; nothing is read."""
    for candidate in _candidates(folder):
        with suppress(OSError):
            return _step(candidate), (candidate / MANIFEST).stat().st_mtime
    return None


def load(checkpoint: Path) -> dict[str, Any]:
    """Read a whole checkpoint into a tree for ``TrainingState.restore``.

    Raises:
        CheckpointError: It cannot be read.
    """
    manifest = read_manifest(checkpoint)
    targets = {
        name: torch.empty(stored.size, dtype=stored.torch_dtype)
        for name, stored in manifest.tensors.items()
    }
    read_into(checkpoint, manifest, targets)
    skeleton = manifest.skeleton
    return unflatten_state(skeleton, [targets[name] for name in names(skeleton)])


def why_torn(checkpoint: Path) -> str | None:
    """Return why a checkpoint is not whole, or None if it is: every byte is checked."""
    try:
        manifest = parse(checkpoint)
    except UnreadableError as error:
        return error.why
    for name, entry in manifest.files.items():
        file = checkpoint / name
        try:
            if not file.is_file():  # a pipe would never end
                return f"{name} cannot be read (no such file)"
            size = file.stat().st_size
            if size != entry.bytes:
                return f"{name} has {size} bytes, not {entry.bytes}"
            if _crc32(file) != entry.crc32:
                return f"{name} does not match its checksum"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def _candidates(folder: Path) -> list[Path]:
    """Return what has the name of a checkpoint, the newest first."""
    found = [one for one in folder.glob("step-*") if _NAME.fullmatch(one.name)]
    return sorted(found, key=_step, reverse=True)


def _step(candidate: Path) -> int:
    return int(candidate.name.removeprefix("step-"))


def _crc32(file: Path) -> int:
    value = 0
    with file.open("rb") as data:
        while part := data.read(CHUNK_BYTES):
            value = zlib.crc32(part, value)
    return value


def _write(file: Path, data: bytes) -> None:
    with file.open("wb") as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
