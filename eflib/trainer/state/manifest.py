"""The manifest of a checkpoint: what its files hold, checked before anything acts upon it."""

from __future__ import annotations

import json
import math
import os
import stat
import zlib
from pathlib import Path

import msgspec
import torch

from eflib.errors import CheckpointError
from eflib.messages.fields import Count, Message
from eflib.trainer.state import tree

MANIFEST = "manifest.json"
FORMAT = 2
MAX_BYTES = 1 << 28
"""Largest manifest that is read: some hundred bytes for each tensor."""
_STATE = {"model": dict, "parts": dict, "global_step": int, "samples": int}


class Chunk(Message, frozen=True):
    """Where a part of a tensor lies: its place in the tensor, and its bytes in a file."""

    offsets: tuple[Count, ...]
    sizes: tuple[Count, ...]
    file: str
    at: Count
    bytes: Count


class Stored(Message, frozen=True):
    """A tensor: dtype, size, and the chunks that make it up."""

    dtype: str
    size: tuple[Count, ...]
    chunks: tuple[Chunk, ...]

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """The dtype; None if torch has none of that name."""
        found = getattr(torch, self.dtype, None)
        return found if isinstance(found, torch.dtype) else None


class File(Message, frozen=True):
    """A file beside the manifest."""

    bytes: Count
    crc32: Count


class Part(Message, frozen=True):
    """What one rank wrote."""

    tensors: dict[str, Stored]
    files: dict[str, File]

    def joined(self, other: Part) -> Part:
        """Return this and another rank's part as one."""
        tensors = dict(self.tensors)
        for name, stored in other.tensors.items():
            own = tensors[name].chunks if name in tensors else ()
            tensors[name] = Stored(stored.dtype, stored.size, own + stored.chunks)
        return Part(tensors, self.files | other.files)


class Manifest(Message, frozen=True):
    """What a checkpoint holds; ``skeleton`` is the state without its tensors."""

    format: int
    global_step: Count
    signature: str
    skeleton: str
    tensors: dict[str, Stored]
    files: dict[str, File]


class UnreadableError(Exception):
    """A manifest cannot be used.

    Args:
        why: What speaks against it.
        is_foreign: True when another version of eflib wrote it, which may read it.
    """

    def __init__(self, why: str, *, is_foreign: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.is_foreign = is_foreign


def encode(manifest: Manifest) -> bytes:
    """Return a manifest as it is written, with a checksum of itself."""
    document = msgspec.to_builtins(manifest)
    return json.dumps(document | {"crc32": _crc32(document)}, separators=(",", ":")).encode()


def encode_part(part: Part) -> bytes:
    """Return a rank's part as it is told to rank 0."""
    return msgspec.json.encode(part)


def decode_part(file: Path) -> Part:
    """Return what ``encode_part`` wrote.

    Raises:
        OSError: The file cannot be read.
        CheckpointError: It holds no such part.
    """
    try:
        return msgspec.json.decode(read_regular(file, MAX_BYTES), type=Part)
    except (UnreadableError, msgspec.DecodeError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be used: {error}") from None


def read_manifest(checkpoint: Path) -> Manifest:
    """Return the manifest of a checkpoint.

    Raises:
        CheckpointError: There is none that can be used.
    """
    try:
        return parse(checkpoint)
    except UnreadableError as error:
        raise CheckpointError(
            f"the checkpoint {checkpoint} cannot be read: {error.why}",
            hint="the newest whole one is taken when the job starts again",
        ) from None


def parse(checkpoint: Path) -> Manifest:
    """Return the manifest of a checkpoint; what passes is safe to act upon.

    Raises:
        UnreadableError: It cannot be used.
    """
    document = _document(checkpoint / MANIFEST)
    if not isinstance(document, dict) or "format" not in document:
        raise UnreadableError(f"{MANIFEST} does not say its format")
    if document["format"] != FORMAT:
        raise UnreadableError(
            f"it is of format {document['format']!r}; this eflib reads format {FORMAT}",
            is_foreign=isinstance(document["format"], int),
        )
    if document.pop("crc32", None) != _crc32(document):
        raise UnreadableError(f"{MANIFEST} does not match its checksum")
    try:
        manifest = msgspec.convert(document, Manifest, strict=True)
    except msgspec.ValidationError as error:
        raise UnreadableError(f"{MANIFEST} does not have the form of one: {error}") from None
    why = _what_leads_outside(manifest) or _what_does_not_fit(manifest)
    if why:
        raise UnreadableError(why)
    return manifest


def is_foreign(checkpoint: Path) -> bool:
    """Tell whether another version of eflib wrote a checkpoint, and so may need it."""
    try:
        parse(checkpoint)
    except UnreadableError as error:
        return error.is_foreign
    return False


def read_regular(file: Path, most: int) -> bytes:
    """Return what a regular file holds; a pipe or a device is not waited for.

    Raises:
        OSError: It cannot be read.
        UnreadableError: It is no regular file, or larger than ``most`` bytes.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as data:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise UnreadableError(f"{file.name} is not a regular file")
        if facts.st_size > most:
            raise UnreadableError(f"{file.name} has {facts.st_size} bytes, more than {most}")
        return data.read(most)


def _document(file: Path) -> object:
    try:
        return json.loads(read_regular(file, MAX_BYTES))
    except OSError as error:
        raise UnreadableError(f"{file.name} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UnreadableError(f"{file.name} is not JSON") from None


def _crc32(document: object) -> int:
    try:
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        return -1
    return zlib.crc32(text.encode(errors="surrogatepass"))


def _what_leads_outside(manifest: Manifest) -> str:
    """Return what would lead outside the checkpoint's folder or its files; "" if nothing does."""
    for name in manifest.files:
        if Path(name).name != name or "\0" in name:
            return f"{MANIFEST} names the file {name!r}"
    for name, stored in manifest.tensors.items():
        for chunk in stored.chunks:
            file = manifest.files.get(chunk.file)
            if file is None or chunk.at + chunk.bytes > file.bytes:
                return f"{name} lies outside {chunk.file!r}"
    return ""


def _what_does_not_fit(manifest: Manifest) -> str:
    """Return what is wrong with a tensor or with the skeleton; "" if all is well."""
    for name, stored in manifest.tensors.items():
        dtype = stored.torch_dtype
        if dtype is None:
            return f"{name} has the unknown dtype {stored.dtype!r}"
        held = 0
        for chunk in stored.chunks:
            ends = [start + size for start, size in zip(chunk.offsets, chunk.sizes, strict=False)]
            fits = len(chunk.offsets) == len(chunk.sizes) == len(stored.size) and all(
                end <= size for end, size in zip(ends, stored.size, strict=True)
            )
            count = math.prod(chunk.sizes)
            if not fits or chunk.bytes != count * dtype.itemsize or chunk.at % dtype.itemsize:
                return f"{name} has a chunk that does not fit it"
            held += count
        if held != math.prod(stored.size):
            return f"{name} has {held} elements in its chunks, not {math.prod(stored.size)}"
    return _what_is_wrong_with(manifest)


def _what_is_wrong_with(manifest: Manifest) -> str:
    try:
        found = tree.names(manifest.skeleton)
        state = tree.unflatten(manifest.skeleton, [torch.empty(0)] * len(found))
    except tree.BROKEN as error:
        return f"the skeleton of the state cannot be read ({type(error).__name__})"
    if set(found) != set(manifest.tensors):
        return "the skeleton of the state names other tensors than there are"
    if not isinstance(state, dict) or any(
        not isinstance(state.get(key), kind) for key, kind in _STATE.items()
    ):
        return "the skeleton of the state is not that of a trainer"
    return ""
