"""Raw bytes and JSON under ``torch.distributed.checkpoint``: nothing in a checkpoint is pickled.

torch's own FileSystemReader unpickles ``.metadata``, which runs whatever code a folder holds. Here
tensors are raw bytes in one file per rank, and where they lie stands in a manifest in JSON.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from torch.distributed.checkpoint.default_planner import (
    DefaultLoadPlanner,
    create_default_global_save_plan,
)
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadPlan,
    LoadPlanner,
    SavePlan,
    SavePlanner,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from eflib.trainer.state.manifest import Chunk, File, Manifest, Part, Stored

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK_BYTES = 1 << 20  # written and summed at a time
ALIGNMENT = 64  # tensors begin at multiples of this in their file


@dataclass(frozen=True)
class Piece:
    """A tensor that a rank saves, or its part of one.

    Args:
        name: Where it stands in the state, as ``model/0.weight``.
        tensor: The bytes that this rank holds.
        offsets: Where they begin in the whole tensor.
        size: The whole tensor's shape.
    """

    name: str
    tensor: torch.Tensor
    offsets: tuple[int, ...]
    size: tuple[int, ...]

    def with_tensor(self, tensor: torch.Tensor) -> Piece:
        """Return the same piece with its bytes elsewhere."""
        return replace(self, tensor=tensor)


@dataclass(frozen=True)
class Extent:
    """Where a chunk lies: file, offset and length in bytes."""

    file: str
    at: int
    length: int


class PiecePlanner(SavePlanner):
    """Plans to save the pieces of one rank; which rank saves what was decided before.

    Args:
        pieces: What this rank writes.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = {(piece.name, piece.offsets): piece for piece in pieces}

    def set_up_planner(
        self,
        state_dict: object,
        storage_meta: object = None,
        is_coordinator: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """Do nothing: the pieces say all."""

    def create_local_plan(self) -> SavePlan:
        """Return one write per piece."""
        return SavePlan([_write_item(piece) for piece in self._pieces.values()])

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        """Return the plans as they are, and what they amount to."""
        return create_default_global_save_plan(all_plans)

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        """Return the plan."""
        return new_plan

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor:
        """Return the tensor of a write."""
        offset = write_item.index.offset
        return self._pieces[write_item.index.fqn, tuple(offset or ())].tensor


def _write_item(piece: Piece) -> WriteItem:
    shape = tuple(piece.tensor.shape)
    return WriteItem(
        index=MetadataIndex(piece.name, torch.Size(piece.offsets)),
        type=WriteItemType.TENSOR if shape == piece.size else WriteItemType.SHARD,
        tensor_data=TensorWriteData(
            chunk=ChunkStorageMetadata(torch.Size(piece.offsets), torch.Size(shape)),
            properties=TensorProperties(dtype=piece.tensor.dtype),
            size=torch.Size(piece.size),
        ),
    )


class RawWriter(StorageWriter):
    """Writes the pieces of one rank into one file, synced.

    Args:
        folder: The checkpoint's folder.
        file: Name of this rank's file.
    """

    def __init__(self, folder: Path, file: str) -> None:
        self._folder = folder
        self._file = file
        self._checksum = 0
        self._length = 0
        self.part = Part({}, {})

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin anew."""
        if checkpoint_id is not None:
            self._folder = Path(checkpoint_id)

    def set_up_storage_writer(
        self,
        is_coordinator: bool,  # noqa: FBT001 - torch's signature
        *args: object,
        **kwargs: object,
    ) -> None:
        """Make the folder."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Return the plan."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Return the plans."""
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write all pieces one behind the other, and sync the file."""
        results = []
        self._checksum = self._length = 0
        with (self._folder / self._file).open("wb") as file:
            for item in plan.items:
                self._append(file, bytes(-self._length % ALIGNMENT))
                data = planner.resolve_data(item)
                begin = self._length
                if isinstance(data, torch.Tensor) and data.numel():
                    flat = data.detach().contiguous().reshape(-1).view(torch.uint8)
                    self._append(file, flat.numpy().data)
                length = self._length - begin
                results.append(WriteResult(item.index, length, Extent(self._file, begin, length)))
            file.flush()
            os.fsync(file.fileno())
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done

    def _append(self, file: BinaryIO, data: bytes | memoryview) -> None:
        view = memoryview(data)
        for at in range(0, len(view), CHUNK_BYTES):
            chunk = view[at : at + CHUNK_BYTES]
            file.write(chunk)
            self._checksum = zlib.crc32(chunk, self._checksum)
        self._length += len(view)

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Note what the manifest has to say of this rank's file."""
        extents = {
            (result.index.fqn, tuple(result.index.offset or ())): result.storage_data
            for part in results
            for result in part
        }
        tensors: dict[str, Stored] = {}
        for name, stored in metadata.state_dict_metadata.items():
            if isinstance(stored, TensorStorageMetadata):
                chunks = tuple(
                    _chunk(chunk, extents[name, tuple(chunk.offsets)]) for chunk in stored.chunks
                )
                dtype = str(stored.properties.dtype).removeprefix("torch.")
                tensors[name] = Stored(dtype, tuple(stored.size), chunks)
        self.part = Part(tensors, {self._file: File(self._length, self._checksum)})

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Accept paths."""
        return bool(os.fspath(checkpoint_id))


def _chunk(chunk: ChunkStorageMetadata, extent: Extent) -> Chunk:
    return Chunk(tuple(chunk.offsets), tuple(chunk.sizes), extent.file, extent.at, extent.length)


class RawReader(StorageReader):
    """Reads a checkpoint, whole or the parts that a rank needs; also for ``dcp.load``.

    Args:
        folder: The checkpoint's folder.
        manifest: Its manifest.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._tensors = manifest.tensors

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Stay with the folder whose manifest was given."""
        del checkpoint_id

    def read_metadata(self, *args: object, **kwargs: object) -> Metadata:
        """Return what the manifest says of the tensors."""
        return Metadata({name: _stored(stored) for name, stored in self._tensors.items()})

    def set_up_storage_reader(
        self,
        metadata: Metadata,
        is_coordinator: bool,  # noqa: FBT001 - torch's signature
        *args: object,
        **kwargs: object,
    ) -> None:
        """Find where each chunk lies."""
        self._extents = {
            (name, chunk.offsets): (chunk, _dtype_of(stored))
            for name, stored in self._tensors.items()
            for chunk in stored.chunks
        }

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Return the plan."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Return the plans."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copy what the plan names from the mapped files into place."""
        for item in plan.items:
            offset = tuple(item.storage_index.offset or ())
            chunk, dtype = self._extents[item.storage_index.fqn, offset]
            tensor = self._map(chunk, dtype)
            for dim, (begin, length) in enumerate(
                zip(item.storage_offsets, item.lengths, strict=True)
            ):
                tensor = tensor.narrow(dim, begin, length)
            target = planner.resolve_tensor(item).detach()
            target.copy_(tensor)
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _map(self, chunk: Chunk, dtype: torch.dtype) -> torch.Tensor:
        if not chunk.bytes:
            return torch.empty(chunk.sizes, dtype=dtype)
        whole = torch.from_file(
            str(self._folder / chunk.file),
            shared=False,
            size=chunk.at + chunk.bytes,
            dtype=torch.uint8,
        )
        return whole[chunk.at :].view(dtype).view(chunk.sizes)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Accept paths."""
        return bool(os.fspath(checkpoint_id))


def _dtype_of(stored: Stored) -> torch.dtype:
    dtype = stored.torch_dtype
    if dtype is None:
        raise LookupError(f"the dtype {stored.dtype!r} is unknown")  # a manifest that passed has it
    return dtype


def _stored(stored: Stored) -> TensorStorageMetadata:
    return TensorStorageMetadata(
        TensorProperties(dtype=_dtype_of(stored)),
        torch.Size(stored.size),
        [
            ChunkStorageMetadata(torch.Size(chunk.offsets), torch.Size(chunk.sizes))
            for chunk in stored.chunks
        ],
    )


def write_pieces(folder: Path, file: str, pieces: Sequence[Piece]) -> Part:
    """Write a rank's pieces; return its part of the manifest.

    These are the calls of ``dcp.save`` in its order, without its collectives: a thread that writes
    beside training must not talk in the group in which training talks.
    """
    writer, planner = RawWriter(folder, file), PiecePlanner(pieces)
    writer.set_up_storage_writer(is_coordinator=True)
    plan = writer.prepare_local_plan(planner.create_local_plan())
    plans, metadata = planner.create_global_plan([plan])
    plan = planner.finish_plan(writer.prepare_global_plan(plans)[0])
    writer.finish(metadata, [writer.write_data(plan, planner).wait()])
    return writer.part


def read_into(folder: Path, manifest: Manifest, targets: dict[str, torch.Tensor]) -> None:
    """Fill tensors from a checkpoint, each by its name; of a DTensor this rank's part alone."""
    reader, planner = RawReader(folder, manifest), DefaultLoadPlanner(flatten_state_dict=False)
    metadata = reader.read_metadata()
    planner.set_up_planner(dict(targets), metadata, is_coordinator=True)
    reader.set_up_storage_reader(metadata, is_coordinator=True)
    plan = reader.prepare_local_plan(planner.create_local_plan())
    plans = reader.prepare_global_plan(planner.create_global_plan([plan]))
    reader.read_data(planner.finish_plan(plans[0]), planner).wait()
