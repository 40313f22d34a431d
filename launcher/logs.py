"""The lines that a job's ranks write, read as they appear, across generations."""

from __future__ import annotations

from pathlib import Path

NUM_LIVE = 3
"""How many generations back a file may still grow."""


class RankLog:
    """The log of one rank of a job: ``<folder>/<generation>/<rank>.log``, in order of generation.

    A worker that leaves may still write to its old file while the next generation's grows, so the
    files of the last few generations are looked at again.

    Args:
        folder: The job's log folder, as its status says.
        rank: Whose lines.
    """

    def __init__(self, folder: str | Path, rank: int = 0) -> None:
        self._folder = Path(folder)
        self._rank = rank
        self._read_to: dict[Path, int] = {}

    def new_lines(self, *, is_last: bool = False) -> list[str]:
        """Return the whole lines that were written since the last call.

        Args:
            is_last: Nothing more is coming: a line without an end counts, too.
        """
        lines: list[str] = []
        for path in self._files():
            start = self._read_to.get(path, 0)
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    grown = file.read()
            except OSError:
                continue  # it is on a node whose disk is not shared, or was cleared away
            if not is_last:
                grown = grown[: grown.rfind(b"\n") + 1]
            self._read_to[path] = start + len(grown)
            lines += grown.decode(errors="replace").splitlines()
        return lines

    def _files(self) -> list[Path]:
        name = f"{self._rank}.log"
        try:
            folders = [path for path in self._folder.iterdir() if path.name.isdigit()]
        except OSError:
            return []
        files = [path / name for path in sorted(folders, key=lambda path: int(path.name))]
        return [path for path in files[:-NUM_LIVE] if path not in self._read_to] + files[-NUM_LIVE:]


def ranks(folder: str | Path) -> list[int]:
    """Return the ranks that have ever written a log in a job's folder."""
    found = {path.stem for path in Path(folder).glob("*/*.log")} if folder else set()
    return sorted(int(name) for name in found if name.isdigit())
