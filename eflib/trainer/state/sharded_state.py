"""State that no rank holds alone: ``parallel="fsdp"``.

While a generation trains, each rank holds its rows of parameters and optimizer state. Before an
orderly change the rows are gathered, tensor by tensor, in the host's memory of one rank that stays
(in transit); in the next generation that rank sends them out, tensor by tensor, and each keeps its
rows. When a rank is lost its rows are lost with it: all go on from the newest checkpoint.
"""

from __future__ import annotations

import gc
import hashlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed import Store  # type: ignore[attr-defined]
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from eflib.errors import StateMismatchError, UsageError
from eflib.trainer import timeouts
from eflib.trainer.collectives import broadcast, broadcast_text, gather, gather_rows
from eflib.trainer.state import checkpoint, fsdp, unsharding
from eflib.trainer.state.digest import digest
from eflib.trainer.state.manifest import Stored, read_manifest
from eflib.trainer.state.state import Stateful, TrainingState
from eflib.trainer.state.storage import Piece, read_into
from eflib.trainer.state.tree import names, unflatten_state

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_STATE = "parts/optimizer/state/"


class ShardedState(TrainingState):
    """The training state of a model that FSDP2 shards.

    Args:
        model: Its parameters are sharded while there is more than one rank.
        parts: As in ``TrainingState``; ``optimizer`` holds the model's parameters.
        device: Where the model lives.
        layers: Names of the submodules to shard each for itself; None for the usual ones.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        parts: dict[str, Stateful],
        *,
        device: torch.device,
        layers: Sequence[str] | None,
    ) -> None:
        super().__init__(model, parts)
        fsdp.check(model)
        self._device = device
        self._layers = fsdp.layers(model, layers)
        optimizer: Any = parts["optimizer"]  # torch's, with its param_groups
        self._optimizer = optimizer
        known: dict[int, Any] = {id(one): name for name, one in model.named_parameters()}
        self._held = [
            [known.get(id(one), one) for one in group["params"]] for group in optimizer.param_groups
        ]
        self._mesh: DeviceMesh | None = None
        self._rank, self._world_size = 0, 1
        self._num_met = 0  # how often all ranks met in this generation
        self.meeting: Store | None = None  # where this generation's ranks meet, if at a store
        self._transit: tuple[str, list[torch.Tensor]] | None = None
        self.is_fresh = True  # the values are those that the script made
        self.is_held = False  # this rank has its part of the generation's state
        self.token = 0

    @property
    def is_sharded(self) -> bool:
        """True while each rank holds its rows."""
        return self._mesh is not None

    @property
    def is_in_transit(self) -> bool:
        """True on the rank that holds the whole state between two generations."""
        return self._transit is not None

    # Between two generations ---------------------------------------------------------------------

    def hold(self) -> None:
        """Keep the state as it stands, of a model that is not sharded, in the host's memory."""
        skeleton, tensors = self.capture()
        self._transit = (skeleton, [one.cpu() for one in tensors])
        self._optimizer.state.clear()

    def gather(self, holder: int) -> None:
        """Bring all rows to one rank of the group at hand, and unwrap the model on all.

        Raises:
            PeerLostError: A peer is gone.
        """
        if not self.is_sharded:
            self.hold()
            return
        skeleton, tensors = self.capture()
        whole = [self._gather_tensor(one, holder) for one in tensors]
        self.drop()
        if self._rank == holder:
            self._transit = (skeleton, [one for one in whole if one is not None])

    def _gather_tensor(self, tensor: torch.Tensor, holder: int) -> torch.Tensor | None:
        is_holder = self._rank == holder
        local = fsdp.local_of(tensor)
        if not isinstance(tensor, DTensor):
            return local.cpu().clone() if is_holder else None
        size = -(-tensor.shape[0] // self._world_size)
        padded = torch.zeros((size, *tensor.shape[1:]), dtype=tensor.dtype)
        padded[: len(local)] = local.cpu()
        rows = gather(padded, holder)
        return None if rows is None else torch.cat(rows)[: tensor.shape[0]]

    def drop(self) -> None:
        """Let this rank's rows go and unwrap the model; the group's connections close with it."""
        self.is_held = False
        if self._mesh is None:
            return
        self._optimizer.state.clear()
        unsharding.unwrap(self._model)
        unsharding.forget(self._mesh)
        self._mesh = None
        self._repoint()
        gc.collect()  # graphs of a step that broke off hold the group

    def settle(self) -> None:
        """All ranks have their parts: forget what was in transit."""
        self._transit = None
        self.is_held = True

    def shard(self, rank: int, world_size: int) -> None:
        """Wrap the model for the group at hand; its values are still to come."""
        self._rank, self._world_size, self.is_fresh = rank, world_size, False
        self._num_met = 0
        if world_size == 1:
            fsdp.materialise(self._model, self._device)
            self._model.to(self._device)
        else:
            mesh = DeviceMesh.from_group(dist.group.WORLD, self._device.type)  # type: ignore[arg-type]
            fsdp.wrap(self._model, self._layers, mesh, self._device)
            self._mesh = mesh
        self._repoint()

    def _repoint(self) -> None:
        """Give the optimizer the parameters that the model has now."""
        now = dict(self._model.named_parameters())
        for group, held in zip(self._optimizer.param_groups, self._held, strict=True):
            group["params"] = [now[one] if isinstance(one, str) else one for one in held]

    def send(self, source: int) -> int:
        """Send the source's state to all, each keeps its rows; return the bytes that were sent."""
        skeleton, tensors = self._transit or ("", [])
        if self._world_size > 1:
            specs = "\n".join(_spec(one) for one in tensors)
            header = broadcast_text(f"{len(skeleton)}\n{skeleton}{specs}", source)
            length, _, rest = header.partition("\n")
            skeleton, lines = rest[: int(length)], rest[int(length) :].splitlines()
        else:
            lines = [_spec(one) for one in tensors]
        kept, sent = [], 0
        for place, (name, line) in enumerate(zip(names(skeleton), lines, strict=True)):
            own = tensors[place] if self._rank == source else None
            whole = _pass_on(own, line, source, self._world_size)
            kept.append(self._cut(name, whole))
            sent += whole.numel() * whole.element_size()
        self.restore(unflatten_state(skeleton, kept))
        return sent if self._world_size > 1 else 0

    def _cut(self, name: str, whole: torch.Tensor) -> torch.Tensor:
        if not self._has_rows(name, whole.shape) or self._mesh is None:
            return whole
        start, stop = fsdp.rows_of(whole.shape[0], self._rank, self._world_size)
        local = whole[start:stop].to(self._device, copy=True)
        return fsdp.as_dtensor(local, whole.shape, self._mesh)

    def _has_rows(self, name: str, shape: torch.Size) -> bool:
        """Tell whether ranks hold rows of a tensor, by its name: parameters and their moments."""
        if not self.is_sharded:
            return False
        if name.startswith("model/"):
            own = dict(self._model.named_parameters()).get(name.removeprefix("model/"))
            return isinstance(own, DTensor)
        if not name.startswith(_STATE):
            return False
        place = int(name.removeprefix(_STATE).partition("/")[0])
        parameters = [one for group in self._optimizer.param_groups for one in group["params"]]
        return isinstance(parameters[place], DTensor) and parameters[place].shape == shape

    def model_tensors(self) -> dict[str, torch.Tensor]:
        """Return parameters, or this rank's rows of them, and buffers by name, each once."""
        fsdp.reshard(self._model)
        return super().model_tensors()

    def _take(self, own: torch.Tensor, tensor: torch.Tensor) -> None:
        super()._take(fsdp.local_of(own), fsdp.local_of(tensor))

    def meet(self) -> None:
        """Wait until all ranks are here: a forward pass on one of them would never end.

        Raises:
            UsageError: Not all came, or the group is closed.
        """
        if not self.is_sharded:
            return
        if not dist.is_initialized():
            raise UsageError(
                "evaluate() after the end of training, with parallel='fsdp'",
                hint="the workers have parted: save a checkpoint, and load it into a model",
            )
        store = self.meeting
        if store is None:
            return
        self._num_met += 1
        prefix = f"evaluate/{self.token}/{self._num_met}"
        marks = [f"{prefix}/{rank}" for rank in range(self._world_size)]
        store.set(marks[self._rank], "1")
        end = time.monotonic() + timeouts.EVALUATE
        while not store.check(marks) and time.monotonic() < end:
            time.sleep(timeouts.POLL)
        missing = [rank for rank, mark in enumerate(marks) if not store.check([mark])]
        if missing:
            raise UsageError(
                f"evaluate() was called on rank {self._rank} and not on {missing}",
                hint="with parallel='fsdp' no rank has the whole model: all must call it",
            )

    # Checkpoints ---------------------------------------------------------------------------------

    def snapshot(self) -> checkpoint.Snapshot:
        """Return what this rank writes: its rows, and on rank 0 what all ranks hold alike."""
        whole = super().snapshot()
        if not self.is_sharded:
            return whole
        place = (self._rank, self._world_size)
        pieces = [one for piece in whole.pieces for one in _own_pieces(piece, *place)]
        return replace(
            whole,
            pieces=pieces,
            rank=self._rank,
            num_writers=self._world_size,
            token=self.token,
        )

    def read(self, folder: Path) -> None:
        """Take this rank's rows from a checkpoint, whatever number of ranks wrote it."""
        manifest = read_manifest(folder)
        skeleton = manifest.skeleton
        targets = {name: self._target(name, manifest.tensors[name]) for name in names(skeleton)}
        read_into(folder, manifest, targets)
        self.restore(unflatten_state(skeleton, [targets[name] for name in names(skeleton)]))

    def _target(self, name: str, stored: Stored) -> torch.Tensor:
        shape, dtype = torch.Size(stored.size), stored.torch_dtype
        if not self._has_rows(name, shape) or self._mesh is None:
            return torch.empty(shape, dtype=dtype)
        start, stop = fsdp.rows_of(shape[0], self._rank, self._world_size)
        local = torch.empty((stop - start, *shape[1:]), dtype=dtype, device=self._device)
        return fsdp.as_dtensor(local, shape, self._mesh)

    def compare(self) -> int:
        """Return a digest of the state; what ranks hold alike must be alike.

        Raises:
            StateMismatchError: It is not.
        """
        skeleton, tensors = self.capture()
        common = digest(skeleton, [one for one in tensors if not isinstance(one, DTensor)])
        rows = digest("", [fsdp.local_of(one) for one in tensors if isinstance(one, DTensor)])
        seen = [(int(row[0]), int(row[1])) for row in gather_rows(torch.tensor([common, rows]))]
        if any(other != common for other, _ in seen):
            raise StateMismatchError(
                f"ranks hold another state than rank 0 at step {self.global_step}",
                detail="\n".join(f"rank {rank}: {one:016x}" for rank, (one, _) in enumerate(seen)),
            )
        whole = hashlib.blake2b(repr(seen).encode(), digest_size=8).digest()
        return int.from_bytes(whole, "little") >> 1


def _own_pieces(piece: Piece, rank: int, world_size: int) -> list[Piece]:
    """Return what a rank writes of a tensor: its rows; rank 0 what all hold alike."""
    if not isinstance(piece.tensor, DTensor):
        return [piece] if rank == 0 else []
    start, stop = fsdp.rows_of(piece.size[0], rank, world_size)
    if start == stop:
        return []
    offsets = (start, *piece.offsets[1:])
    return [replace(piece, tensor=fsdp.local_of(piece.tensor), offsets=offsets)]


def _pass_on(own: torch.Tensor | None, line: str, source: int, world_size: int) -> torch.Tensor:
    """Return the source's tensor on every rank."""
    dtype, _, shape = line.partition("|")
    if own is None:
        sizes = [int(size) for size in shape.split(",") if size]
        own = torch.empty(sizes, dtype=getattr(torch, dtype))
    elif world_size > 1:
        own = own.cpu().contiguous()
    if world_size > 1:
        broadcast(own, source)
    return own


def _spec(tensor: torch.Tensor) -> str:
    shape = ",".join(str(size) for size in tensor.shape)
    return f"{str(tensor.dtype).removeprefix('torch.')}|{shape}"
