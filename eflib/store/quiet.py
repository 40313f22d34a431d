"""Loading torch so that its C++ part says only what is an error.

torch reports each broken connection and each address without a name with a stack of C++ frames.
Ours are one line and name what to do.
"""

from __future__ import annotations

import importlib
import os
import sys

VARIABLE = "TORCH_CPP_LOG_LEVEL"
"""Asked by torch once, while it is loaded."""


def import_torch(module: str = "torch", level: str = "ERROR") -> None:
    """Import a module that loads torch, unless torch is there or somebody has set the level.

    Args:
        module: The module.
        level: INFO, WARNING, ERROR or FATAL. Processes that this one starts do not see it.
    """
    if VARIABLE in os.environ or "torch" in sys.modules:
        return
    os.environ[VARIABLE] = level
    try:
        importlib.import_module(module)
    finally:
        del os.environ[VARIABLE]
