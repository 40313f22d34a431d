"""Scaling curves in files: those that ship, a person's own, and how they are read and written.

It knows files and curves, and nothing of how a curve is measured.
"""

from eflib.profiles.files import import_tables, read, read_folder, read_table, write
from eflib.profiles.library import available, curves, devices, find, load
from eflib.profiles.profile import Profile, from_json, to_json

__all__ = [
    "Profile",
    "available",
    "curves",
    "devices",
    "find",
    "from_json",
    "import_tables",
    "load",
    "read",
    "read_folder",
    "read_table",
    "to_json",
    "write",
]
