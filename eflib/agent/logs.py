"""Where a worker's output and its exception go, said in torch elastic's own terms."""

from __future__ import annotations

from pathlib import Path

from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs


class OneAppendedLog(LogsSpecs):
    """Standard output and error of one worker, in order, at the end of one file.

    torch's own redirects truncate, and keep the streams apart. So this names no redirects: it makes
    the folder, and the worker opens the file itself, for appending.

    Args:
        log: The file.
        error_file: Where the worker writes its exception.
    """

    def __init__(self, log: str, error_file: str) -> None:
        self._folder = Path(log).parent
        super().__init__(log_dir=str(self._folder))
        self._error_file = error_file

    @property
    def root_log_dir(self) -> str:
        """The folder of the log."""
        return str(self._folder)

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Make the folder, and return where the one worker's streams go."""
        self._folder.mkdir(parents=True, exist_ok=True)
        envs[0]["TORCHELASTIC_ERROR_FILE"] = self._error_file
        return LogsDest(stdouts={0: ""}, stderrs={0: ""}, error_files={0: self._error_file})
