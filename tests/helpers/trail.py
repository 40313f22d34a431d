"""The account that ``scripts/audited.py`` keeps, and whether it adds up."""

import json
from collections import defaultdict
from pathlib import Path

BATCH_SIZE = 64
NUM_SAMPLES = 1003


class Trail:
    """What the workers of one job loaded, committed and ended with."""

    def __init__(self, out):
        self.loaded = defaultdict(list)  # (generation, step) -> [(epoch, sample)]
        self.commits = defaultdict(dict)  # generation -> {step: time}
        self.members = defaultdict(dict)  # generation -> {rank: worker}
        self.pids = {}  # worker -> pid
        self.ended = {}  # pid -> the weights it ended with
        for file in sorted(Path(out).glob("trail/*.jsonl")):
            for line in file.read_text().splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # its writer was killed in the middle of it
                getattr(self, f"_take_{record['kind']}")(record, file.stem)

    def _take_loaded(self, record, pid):
        place = (record["generation"], record["step"])
        self.loaded[place] += map(tuple, record["samples"])

    def _take_committed(self, record, pid):
        commits = self.commits[record["generation"]]
        commits[record["step"]] = min(record["time"], commits.get(record["step"], record["time"]))

    def _take_entered(self, record, pid):
        self.members[record["generation"]][record["rank"]] = record["worker"]
        self.pids[record["worker"]] = record["pid"]

    def _take_ended(self, record, pid):
        self.ended[pid] = record["weights"]

    def world_sizes(self):
        """Return the world size of each generation in which a step was committed, in order."""
        return [len(self.members[one]) for one in sorted(self.commits)]

    def first_commit_after(self, moment):
        """Return when the next step was committed after a moment; None if none was."""
        times = [time for commits in self.commits.values() for time in commits.values()]
        return min((time for time in times if time > moment), default=None)

    def process_tree(self):
        """Return the generation that committed each step, by step, and how often a job restarted.

        A generation goes on where the one before stopped. Only if none of its workers was in an
        earlier one, it may begin further back: at a checkpoint, or anew.
        """
        valid, seen, restarts = [], set(), 0
        for generation in sorted(self.commits):
            steps = sorted(self.commits[generation])
            assert steps == list(range(steps[0], steps[0] + len(steps))), (generation, steps)
            workers = set(self.members[generation].values())
            if steps[0] != len(valid):
                fresh = not workers & seen
                assert fresh, f"generation {generation} begins at {steps[0]}, not at {len(valid)}"
                assert steps[0] < len(valid), f"generation {generation} skips steps"
                del valid[steps[0] :]
                restarts += 1
            seen |= workers
            valid += [generation] * len(steps)
        return valid, restarts

    def check(self, num_steps=None):
        """No sample of the committed steps is lost or repeated; returns how many steps there are.

        The steps are those of one line of generations; what a job had done beyond the checkpoint
        from which it was started again is not among them.
        """
        process_tree, _ = self.process_tree()
        if num_steps is not None:
            assert len(process_tree) == num_steps
        epochs, total = defaultdict(list), 0
        for step, generation in enumerate(process_tree):
            samples = self.loaded[generation, step]
            is_last = step == len(process_tree) - 1
            assert len(samples) == BATCH_SIZE or (is_last and samples), (step, len(samples))
            total += len(samples)
            for epoch, sample in samples:
                epochs[epoch].append(sample)
        for epoch in range(total // NUM_SAMPLES):
            assert sorted(epochs[epoch]) == list(range(NUM_SAMPLES)), f"epoch {epoch}"
        last = epochs[max(epochs)]
        assert len(last) == len(set(last))
        assert sum(map(len, epochs.values())) == total
        return len(process_tree)

    def check_ranks(self):
        """All ranks that came to the end ended with the same weights, bit by bit."""
        assert self.ended
        assert len(set(self.ended.values())) == 1, sorted(self.ended)
