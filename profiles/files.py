"""Profiles in files: the project's own JSON, plain CSV, and published tables of many curves."""

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path

from eflib.errors import UsageError
from eflib.profiles.profile import Profile, from_json, measured, to_json

TABLE_COLUMN = "global_batch_size"  # opens the header of a table of curves
POINT_COLUMNS = ["gpus", "steps_per_second"]


def read(path: str | Path) -> Profile:
    """Read one curve: a JSON profile, or CSV with the columns ``gpus,steps_per_second``.

    Args:
        path: The file; what does not end in ``.json`` is read as CSV. A CSV file says nothing but
            the points: its model is the file's name without ending, its batch size is None.

    Returns:
        The profile.

    Raises:
        UsageError: The file cannot be read or holds no curve; names file, line and column.
    """
    file = Path(path)
    if file.suffix.lower() == ".json":
        try:
            fields = json.loads(_text_of(file))
        except json.JSONDecodeError as error:
            raise UsageError(
                f"{file}:{error.lineno}: not JSON: {error.msg} at column {error.colno}"
            ) from error
        return from_json(fields, origin=str(file))
    rows = _rows(file)
    header = [word.strip() for word in rows[0][1]] if rows else []
    if header[:1] == [TABLE_COLUMN]:
        raise UsageError(
            f"{file} is a table of several curves, one for each global batch size",
            hint=f"efctl profiles import {file} --device NAME makes a profile of each",
        )
    if header != POINT_COLUMNS:
        raise UsageError(
            f"{file}:1: expected the columns {','.join(POINT_COLUMNS)}, found {','.join(header)!r}"
        )
    points = {}
    for line, row in rows[1:]:
        if len(row) != len(POINT_COLUMNS):
            raise UsageError(f"{file}:{line}: expected 2 values, found {len(row)}")
        count = _count(row[0], f"{file}:{line}: gpus")
        if count in points:
            raise UsageError(f"{file}:{line}: {count} GPUs for the second time")
        points[count] = _rate(row[1], f"{file}:{line}: steps_per_second")
    return Profile(
        model=file.stem, device="", points=measured(points, origin=str(file)), source=str(file)
    )


def write(profile: Profile, folder: str | Path) -> Path:
    """Write a profile as JSON under its own name; the folder is made if need be.

    Returns:
        The file written; one of that name is replaced.
    """
    file = Path(folder) / profile.file_name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(to_json(profile), indent=2) + "\n", encoding="utf-8")
    return file


def read_folder(folder: str | Path) -> tuple[Profile, ...]:
    """Read every curve in a folder: JSON profiles, and tables of curves in CSV.

    Returns:
        Profiles by model, then global batch size.

    Raises:
        UsageError: The folder does not exist, holds no curve, or one that cannot be read.
    """
    place = Path(folder)
    if not place.is_dir():
        raise UsageError(f"no folder of profiles at {place}")
    found = [read(file) for file in place.glob("*.json")]
    for file in place.glob("*.csv"):
        found += read_table(file)
    if not found:
        raise UsageError(f"no profile in {place}: neither *.json nor *.csv")
    return ordered(found)


def read_table(path: str | Path, *, device: str = "", source: str = "") -> tuple[Profile, ...]:
    """Read a published table: one row per global batch size, one column per GPU count.

    The header is ``global_batch_size,1,2,4,...`` and the values are steps per second; empty, 0
    and nan mean that it was not measured. The file's name is the model's.

    Args:
        path: The CSV file.
        device: Name of the accelerator it was measured on.
        source: Who measured and published it.

    Returns:
        One profile per row that has at least one measured point, in the table's order.

    Raises:
        UsageError: The file cannot be read or is no such table; names file, line and column.
    """
    file = Path(path)
    rows = _rows(file)
    if not rows or rows[0][1][0].strip() != TABLE_COLUMN:
        raise UsageError(f"{file}:1: the first column must be {TABLE_COLUMN}, then GPU counts")
    counts = [_count(word, f"{file}:1: a column") for word in rows[0][1][1:]]
    profiles = []
    for line, row in rows[1:]:
        if len(row) != len(counts) + 1:
            raise UsageError(f"{file}:{line}: expected {len(counts) + 1} values, found {len(row)}")
        points = {
            count: _rate(word, f"{file}:{line}: column {count}")
            for count, word in zip(counts, row[1:], strict=True)
        }
        if any(rate > 0 for rate in points.values()):
            profiles.append(
                Profile(
                    model=file.stem,
                    device=device.lower(),
                    points=measured(points, origin=f"{file}:{line}"),
                    global_batch_size=_count(row[0], f"{file}:{line}: {TABLE_COLUMN}"),
                    source=source or str(file),
                )
            )
    return tuple(profiles)


def import_tables(
    path: str | Path, *, device: str, source: str, folder: str | Path
) -> tuple[Path, ...]:
    """Convert published tables to profiles of the project's own form.

    Args:
        path: A CSV table, or a folder of them, one file per model.
        device: Name of the accelerator they were measured on.
        source: Who measured and published them; kept in every profile.
        folder: Where the profiles are written.

    Returns:
        The files written, by model and global batch size.

    Raises:
        UsageError: A table cannot be read, or there is none.
    """
    place = Path(path)
    tables = sorted(place.glob("*.csv")) if place.is_dir() else [place]
    found = [one for table in tables for one in read_table(table, device=device, source=source)]
    if not found:
        raise UsageError(f"no table of throughputs in {place}")
    return tuple(write(profile, folder) for profile in ordered(found))


def ordered(profiles: Iterable[Profile]) -> tuple[Profile, ...]:
    """Return profiles by device, model and global batch size."""
    return tuple(sorted(profiles, key=lambda p: (p.device, p.model, p.global_batch_size or 0)))


def _text_of(file: Path) -> str:
    """Return a file's text, or say why there is none."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"no profile at {file}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the profile {file}: {error}") from error


def _rows(file: Path) -> list[tuple[int, list[str]]]:
    """Return (line number, values) of the lines of a CSV file that are not empty."""
    reader = csv.reader(_text_of(file).splitlines())
    return [(reader.line_num, row) for row in reader if any(word.strip() for word in row)]


def _count(word: str, what: str) -> int:
    """Return a whole number from 1 up."""
    if not word.strip().isdecimal() or int(word) < 1:
        raise UsageError(f"{what} {word.strip()!r} is not a whole number from 1 up")
    return int(word)


def _rate(word: str, what: str) -> float:
    """Return a throughput; nan for an empty place."""
    try:
        return float(word) if word.strip() else math.nan
    except ValueError as error:
        raise UsageError(f"{what}: {word.strip()!r} is not a number") from error
