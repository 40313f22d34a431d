"""The curves that ship with eflib, one folder per device, found by model, device and batch size."""

import difflib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from eflib.errors import UsageError
from eflib.files import is_folder
from eflib.profiles import files
from eflib.profiles.profile import Profile
from eflib.scheduling.scaling import ScalingCurve

SHIPPED = Path(__file__).parent


@lru_cache(maxsize=1)
def available() -> tuple[Profile, ...]:
    """Return every profile that ships, by device, model and global batch size."""
    return files.ordered(files.read(file) for file in SHIPPED.glob("*/*.json"))


def devices() -> tuple[str, ...]:
    """Return the names of the devices that profiles ship for."""
    return tuple(sorted({profile.device for profile in available()}))


def find(model: str, device: str, global_batch_size: int) -> Profile:
    """Return the profile that ships for a model, a device and a global batch size.

    Args:
        model: Name of the model, such as ``resnet50``.
        device: Name of the device, such as ``a100``; capitals do not matter.
        global_batch_size: Samples per step over all workers; one that was measured.

    Raises:
        UsageError: There is none; says which devices, models or batch sizes there are.
    """
    on_device = [p for p in available() if p.device == device.lower()]
    if not on_device:
        raise UsageError(f"no profiles for device {device!r}", hint=_choice(device, devices()))
    of_model = [p for p in on_device if p.model == model]
    if not of_model:
        models = sorted({p.model for p in on_device})
        raise UsageError(f"no profile of {model!r} on {device}", hint=_choice(model, models))
    for profile in of_model:
        if profile.global_batch_size == global_batch_size:
            return profile
    sizes = ", ".join(str(p.global_batch_size) for p in of_model)
    raise UsageError(
        f"no profile of {model!r} on {device} with a global batch size of {global_batch_size}",
        hint=f"there is one for {sizes}",
    )


def load(model: str, device: str, global_batch_size: int) -> ScalingCurve:
    """Return the scaling curve that ships for a model, a device and a global batch size.

    Args:
        model: Name of a model, as in ``efctl profiles``.
        device: Name of a device, such as ``a100``.
        global_batch_size: Samples of a step, over all workers.

    Raises:
        UsageError: There is none; see :func:`find`.

    Examples:
        >>> load("resnet50", "a100", 256).counts
        (1, 2, 4, 8, 16, 32, 64)
    """
    return find(model, device, global_batch_size).curve


def curves(name_or_folder: str | Path) -> dict[tuple[str, int], ScalingCurve]:
    """Return every curve of a device that ships, or of a folder, by (model, global batch size).

    Args:
        name_or_folder: A device (``a100``, ``t4``), or a folder of JSON profiles or CSV tables; a
            name that is both is the device.

    Raises:
        UsageError: It is neither, or a file in the folder cannot be read.
    """
    name = str(name_or_folder)
    if name.lower() in devices():
        found: Iterable[Profile] = (p for p in available() if p.device == name.lower())
    elif is_folder(name):
        found = files.read_folder(name)
    else:
        known = ", ".join(devices())
        raise UsageError(
            f"no profiles named {name!r}: neither a device that ships ({known}) nor a folder",
            hint=_choice(name, devices()),
        )
    return {
        (profile.model, profile.global_batch_size): profile.curve
        for profile in found
        if profile.global_batch_size is not None
    }


def _choice(word: str, words: Iterable[str]) -> str:
    """Return a hint that names the closest word, or all."""
    known = list(words)
    close = difflib.get_close_matches(word.lower(), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
