"""Profiles in files: the project's own JSON, plain CSV, and published tables of many curves."""

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path

from eflib.errors import UsageError
from eflib.files import read_text, writing
from eflib.profiles.profile import (
    FORM,
    MAX_GPUS,
    Profile,
    from_json,
    gpu_count,
    measured,
    to_json,
)

TABLE_COLUMN = "global_batch_size"  # opens the header of a table of curves
POINT_COLUMNS = ["gpus", "steps_per_second"]
CURVE_FORM = f"a curve has the columns {','.join(POINT_COLUMNS)}, or ends in .json"
TABLE_FORM = (
    f"a table has the columns {TABLE_COLUMN},1,2,4,... and a curve {','.join(POINT_COLUMNS)}"
)
MAX_BYTES = 2**20
"""Size of the largest file of curves that is read, in bytes; those that ship have about 500."""


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
        return from_json(_json(file), origin=str(file))
    rows = _rows(file)
    header = [word.strip() for word in rows[0][1]] if rows else []
    if header[:1] == [TABLE_COLUMN]:
        raise UsageError(
            f"{file} is a table of several curves, one for each global batch size",
            hint=f"efctl profiles import {file} --device NAME makes a profile of each",
        )
    if header != POINT_COLUMNS:
        raise UsageError(
            f"{file}:1: expected the columns {','.join(POINT_COLUMNS)}, "
            f"found {','.join(header)[:80]!r}",
            hint=CURVE_FORM,
        )
    points = {}
    for line, row in rows[1:]:
        if len(row) != len(POINT_COLUMNS):
            raise UsageError(f"{file}:{line}: expected 2 values, found {len(row)}", hint=TABLE_FORM)
        count = _count(row[0], f"{file}:{line}: gpus")
        if count in points:
            raise UsageError(
                f"{file}:{line}: {count} GPUs for the second time", hint="leave one of them out"
            )
        points[count] = _rate(row[1], f"{file}:{line}: steps_per_second")
    return Profile(
        model=file.stem, device="", points=measured(points, origin=str(file)), source=str(file)
    )


def write(profile: Profile, folder: str | Path) -> Path:
    """Write a profile as JSON under its own name; the folder is made if need be.

    Returns:
        The file written; one of that name is replaced.

    Raises:
        UsageError: It cannot be written.
    """
    file = Path(folder) / profile.file_name
    with writing(file, "the profile"):
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
        raise UsageError(
            f"no folder of profiles at {place}", hint="see those that ship: efctl profiles list"
        )
    found = [read(file) for file in place.glob("*.json")]
    for file in place.glob("*.csv"):
        found += read_table(file)
    if not found:
        raise UsageError(
            f"no profile in {place}: neither *.json nor *.csv",
            hint="efctl profile SCRIPT measures one; efctl profiles import makes some of a table",
        )
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
        raise UsageError(
            f"{file}:1: the first column must be {TABLE_COLUMN}, then GPU counts", hint=TABLE_FORM
        )
    counts = [_count(word, f"{file}:1: a column") for word in rows[0][1][1:]]
    profiles = []
    for line, row in rows[1:]:
        if len(row) != len(counts) + 1:
            raise UsageError(
                f"{file}:{line}: expected {len(counts) + 1} values, found {len(row)}",
                hint=TABLE_FORM,
            )
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
                    global_batch_size=_batch_size(row[0], f"{file}:{line}: {TABLE_COLUMN}"),
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
        raise UsageError(f"no table of throughputs in {place}", hint=TABLE_FORM)
    return tuple(write(profile, folder) for profile in ordered(found))


def ordered(profiles: Iterable[Profile]) -> tuple[Profile, ...]:
    """Return profiles by device, model and global batch size."""
    return tuple(sorted(profiles, key=lambda p: (p.device, p.model, p.global_batch_size or 0)))


def _text_of(file: Path) -> str:
    """Return a file's text, or say why there is none."""
    return read_text(file, "the profile", max_bytes=MAX_BYTES)


def _json(file: Path) -> object:
    """Return what a JSON file holds."""
    text = _text_of(file)
    try:
        fields: object = json.loads(text)
        json.dumps(fields, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{file}:{error.lineno}: not JSON: {error.msg} at column {error.colno}", hint=FORM
        ) from error
    except RecursionError:
        raise UsageError(f"{file}: the JSON is nested too deeply", hint=FORM) from None
    except UnicodeEncodeError:
        raise UsageError(f"{file}: a text holds half of a surrogate pair", hint=FORM) from None
    except ValueError:  # Python reads integers of at most 4300 digits
        raise UsageError(f"{file}: a number has too many digits", hint=FORM) from None
    return fields


def _rows(file: Path) -> list[tuple[int, list[str]]]:
    """Return (line number, values) of the lines of a CSV file that are not empty."""
    reader = csv.reader(_text_of(file).splitlines())
    return [(reader.line_num, row) for row in reader if any(word.strip() for word in row)]


def _count(word: str, what: str) -> int:
    """Return a GPU count."""
    count = gpu_count(word)
    if count is None:
        raise UsageError(
            f"{what} must be an integer from 1 to {MAX_GPUS}, got {word.strip()[:80]!r}",
            hint=TABLE_FORM,
        )
    return count


def _batch_size(word: str, what: str) -> int:
    """Return a global batch size."""
    digits = word.strip()
    if not digits.isdecimal() or len(digits) > 15 or int(digits) < 1:
        raise UsageError(f"{what} must be an integer from 1, got {digits[:80]!r}", hint=TABLE_FORM)
    return int(digits)


def _rate(word: str, what: str) -> float:
    """Return a throughput; nan for an empty place."""
    try:
        return float(word) if word.strip() else math.nan
    except ValueError as error:
        raise UsageError(
            f"{what} must be a number, got {word.strip()[:80]!r}", hint=TABLE_FORM
        ) from error
