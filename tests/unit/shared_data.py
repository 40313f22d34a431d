"""Where published traces and tables lie on machines that have them; no copy of them ships."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def shared_data(part: str) -> Path:
    """Return the folder ``traces`` or ``throughputs``; without it, skip the test and say so.

    It is looked for in ``EFLIB_SHARED_DATA``, else beside the checkout.
    """
    home = Path(os.environ.get("EFLIB_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not (home / part).is_dir():
        pytest.skip(f"no published {part} in {home}; set EFLIB_SHARED_DATA to have this tested")
    return home / part
