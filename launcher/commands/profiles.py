"""``efctl profiles``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from eflib import profiles
from eflib.errors import UsageError, printable
from eflib.files import is_folder
from eflib.home import home_folder, profile_folder
from eflib.launcher import curves, tables, values
from eflib.launcher.arguments import close_match
from eflib.simulator.plots import draw_curves

NEEDS_NAME = "name a model, or a file with a curve"


def command(  # noqa: PLR0913 - each is an option
    action: str = "list",
    name: str = "",
    *,
    device: str | None = None,
    global_batch_size: str | None = None,
    source: str | None = None,
    out: str | None = None,
    json: bool = False,
) -> None:
    """List, show, draw or import scaling curves: steps per second by number of GPUs.

    list: the curves that ship, and those measured here. show and plot: those of a model, or of a
    file. import: make profiles of a published table (CSV with global_batch_size,1,2,4,...), or of a
    folder of tables.

    Args:
        action: list, show, plot or import.
        name: For show and plot a model or a file; for import the table or folder.
        device: Curves of this accelerator only, such as a100; for import, the one measured on.
        global_batch_size: Curves at this global batch size only, in samples per step.
        source: For import, who measured and published the tables.
        out: For plot, the figure, written as PNG and SVG; for import, the folder to write to. By
            default named after what is plotted, or after the device.
        json: Print one JSON object.
    """
    size = values.number(global_batch_size, "--global-batch-size", most=2**53)
    acts: dict[str, Callable[[], None]] = {
        "list": partial(_list, name, device, size, as_json=json),
        "show": partial(_show, name, device, size, as_json=json),
        "plot": partial(_plot, name, device, size, out),
        "import": partial(_import, name, device, source, out),
    }
    if action not in acts:
        hint = close_match(action, list(acts)) or f"there are {', '.join(acts)}"
        raise UsageError(f"there is no action {action!r} of efctl profiles", hint=hint)
    acts[action]()


def _list(name: str, device: str | None, size: int | None, *, as_json: bool) -> None:
    """Print what there is, one line each."""
    found = _find(name, device, size) if name else _filtered(_known(), device, size)
    if as_json:
        tables.print_json({"profiles": [profiles.to_json(profile) for profile in found]})
        return
    table: dict[str, list[str]] = {
        "device": [profile.device for profile in found],
        "model": [profile.model for profile in found],
        "batch": [str(_batch(profile)) for profile in found],
        "GPUs": [",".join(map(str, profile.points)) for profile in found],
        "source": [profile.source for profile in found],
    }
    tables.print_columns(table, left=("device", "model", "GPUs", "source"))


def _show(name: str, device: str | None, size: int | None, *, as_json: bool) -> None:
    """Print curves point by point."""
    found = _find(name, device, size)
    if as_json:
        tables.print_json({"profiles": [profiles.to_json(profile) for profile in found]})
        return
    for place, profile in enumerate(found):
        if place:
            print()
        on, batch = profile.device or "?", _batch(profile)
        print(printable(f"{profile.model} on {on}, global batch size {batch}"))
        print(printable(f"source: {profile.source or 'unknown'}"))
        if profile.measured_at:
            print(printable(f"measured: {profile.measured_at}"))
        curves.print_curve(profile)


def _plot(name: str, device: str | None, size: int | None, out: str | None) -> None:
    """Draw curves by number of GPUs."""
    found = _find(name, device, size)
    for file in draw_curves(found, out or found[0].model):
        print(file)


def _import(name: str, device: str | None, source: str | None, out: str | None) -> None:
    """Convert published tables."""
    if not name:
        raise UsageError(
            "efctl profiles import needs a table, or a folder of tables",
            hint="as in: efctl profiles import tables/ --device a100",
        )
    if not device:
        raise UsageError(
            "efctl profiles import needs --device: what the tables were measured on",
            hint=f"as in: efctl profiles import {name} --device a100",
        )
    written = profiles.import_tables(
        name, device=device, source=source or name, folder=out or device
    )
    for file in written:
        print(file)


def _known() -> Sequence[profiles.Profile]:
    """Return the curves that ship and those measured here; what is no profile is passed over."""
    found = list(profiles.available())
    for file in sorted(profile_folder(home_folder()).glob("*.json")):
        with suppress(UsageError):
            found.append(profiles.read(file))
    return found


def _find(name: str, device: str | None, size: int | None) -> Sequence[profiles.Profile]:
    """Return curves: of a model that ships, measured here, of a file, or of a folder."""
    if not name:
        raise UsageError(NEEDS_NAME, hint="see what ships with: efctl profiles list")
    known = _known()
    shipped = [profile for profile in known if profile.model == name]
    place = Path(name)
    if shipped:
        found: Sequence[profiles.Profile] = shipped
    elif is_folder(place):
        found = profiles.read_folder(place)
    elif place.suffix or os.path.lexists(place):
        found = [profiles.read(place)]
    else:
        models = sorted({profile.model for profile in known})
        hint = close_match(name, models) or f"there are {', '.join(models)}"
        raise UsageError(f"no curve is known for {name!r}, and it is no file", hint=hint)
    kept = _filtered(found, device, size)
    if not kept:
        sizes = sorted({(p.device, p.global_batch_size or 0) for p in found})
        have = ", ".join(f"{on or '?'} with {batch or '?'}" for on, batch in sizes)
        raise UsageError(f"no such curve of {name!r}", hint=f"device and batch size: {have}")
    return kept


def _filtered(
    found: Sequence[profiles.Profile], device: str | None, size: int | None
) -> list[profiles.Profile]:
    """Return the curves of a device and at a batch size, where these are given."""
    return [
        profile
        for profile in found
        if device is None or profile.device == device.lower()
        if size is None or profile.global_batch_size == size
    ]


def _batch(profile: profiles.Profile) -> str:
    return "?" if profile.global_batch_size is None else str(profile.global_batch_size)
