"""``make demo``: two training jobs with deadlines share four CPU slots; a third is refused.

python examples/demo
python examples/demo --svg docs/images/demo.svg

Everything goes through ``eflaunch``, as a person would type it, in a cluster of the demo's own that
is gone afterwards. What is claimed at the end is checked against what the workers wrote down.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from evidence import JobSheet, claims
from stage import SLOTS, Act, Stage
from view import View, claim_list, slot_strips, verdict_table

from eflib.errors import EflibError
from eflib.launcher import cli, wording
from eflib.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from eflib.launcher.documents import Document

# Sized for two cores, busy ones included. Sleeping needs no core, so four workers really are faster
# than two; the sizes of the batches keep what has to be computed small beside it. The deadline of
# the first leaves room for the second, and is close enough that the first needs its own slots.
DIGITS = Act("digits", steps=320, batch_size=48, pace=0.012, deadline="140s", dataset_size=1500)
# The second is bounded: new here, it would be measured on all slots that the first can do without
# for a while, and that may be all four.
CHAR_GPT = Act("char_gpt", steps=50, batch_size=16, pace=0.03, deadline="90s", max_gpus=2)
HOPELESS = Act("char_gpt", steps=900, batch_size=16, pace=0.03, deadline="2m", name="hopeless")

STEPS_ALONE = 50
"""Steps that the first job has to itself before the second one comes."""
PATIENCE = 420.0
"""Seconds after which the demo gives up; it takes about two minutes."""
LOOK = 0.2
"""Seconds between two looks at the jobs."""
REFUSED = 3


class DemoFailedError(EflibError):
    """The story took another course than it should."""

    code = "demo-failed"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python examples/demo", description="Run the demo.")
    parser.add_argument("--svg", type=Path, help="write a picture of the output to this file")
    options = parser.parse_args()
    return cli.guarded(lambda: demo(options.svg))


def demo(svg: Path | None) -> int:
    """Tell the story; return 0 if all of it came true."""
    with tempfile.TemporaryDirectory(prefix="eflib-demo-") as folder:
        view = View()
        with Stage(Path(folder), say=view.note) as stage:
            story = Story(stage, view)
            found = story.told()
        found.append(("nothing is left running", not stage.left_behind))
    found.append(("nothing is left on disk", not Path(folder).exists()))
    view.print(*claim_list(found))
    if svg is not None:
        view.save(svg)
    return 0 if all(holds for _, holds in found) else 1


class Story:
    """The course of events, and what of it can be proved.

    Args:
        stage: Where the commands run.
        view: Where it is shown.
    """

    def __init__(self, stage: Stage, view: View) -> None:
        self._stage = stage
        self._view = view
        self._end = time.monotonic() + PATIENCE

    def told(self) -> list[tuple[str, bool]]:
        """Run the commands, show what happens, and return the claims with whether they hold."""
        say = self._view.say
        say(
            f"Two jobs with deadlines will share {SLOTS} CPU slots on {os.cpu_count()} cores.",
            "Each model also sleeps some milliseconds per sample: a stand-in accelerator, so that",
            "more workers are faster even here. Data, gradients and rescaling are real.",
        )
        for command in self._stage.open():
            self._view.note(f"$ {command}", style="cyan")
        with self._view.live():
            say("The first job is new here: its speed is measured, then it gets all four slots.")
            self._launch(DIGITS)
            self._until(lambda jobs: _step(jobs, DIGITS) >= STEPS_ALONE)
            say("The second has less time. The first shrinks while it trains; no process restarts.")
            self._launch(CHAR_GPT)
            self._until(lambda jobs: _is_over(jobs, CHAR_GPT))
            say("The second is done, and the first grows back.")
            self._until(lambda jobs: _is_over(jobs, DIGITS))
        self._until(lambda _: self._stage.all_ended())
        say("A third job asks for what cannot be done. It is refused, and told what could be.")
        self._launch(HOPELESS)
        self._until(lambda _: self._stage.all_ended())
        for line in self._stage.said_by(HOPELESS)[-4:]:
            self._view.note(f"  {line}")
        return self._verdict()

    def _verdict(self) -> list[tuple[str, bool]]:
        jobs = self._stage.jobs()
        sheets = [
            JobSheet(
                name=act.name,
                status=jobs[act.name],
                asked=act.deadline,
                launched=self._stage.launched[act.name],
                batch_size=act.batch_size,
                lines=self._stage.audit(act),
                dataset_size=act.dataset_size,
            )
            for act in (DIGITS, CHAR_GPT)
        ]
        self._view.print(*slot_strips(self._view.samples, [sheet.name for sheet in sheets]))
        self._view.say("What became of them")
        self._view.print(verdict_table(sheets))
        refused = self._stage.status(HOPELESS) == REFUSED
        offered = jobs[HOPELESS.name].get("earliest_deadline") is not None
        found = [
            (f"{act.name} ended with exit code 0", self._stage.status(act) == 0)
            for act in (DIGITS, CHAR_GPT)
        ]
        found += claims(sheets)
        found.append(("the third was refused with exit code 3 and an offer", refused and offered))
        return found

    def _launch(self, act: Act) -> None:
        self._view.note(f"$ {self._stage.launch(act)}", style="cyan")

    def _until(self, is_reached: Callable[[dict[str, Document]], bool]) -> None:
        """Show the jobs until something is the case.

        Raises:
            DemoFailedError: A command ended early and badly, or it takes too long.
        """
        while True:
            jobs = self._stage.jobs()
            self._view.show([jobs[act.name] for act in (DIGITS, CHAR_GPT) if act.name in jobs])
            if is_reached(jobs):
                return
            for act in (DIGITS, CHAR_GPT):
                if self._stage.status(act) not in (None, 0):
                    raise DemoFailedError(
                        f"eflaunch ended job {act.name} with status {self._stage.status(act)}",
                        detail="\n".join(self._stage.said_by(act)[-30:]),
                    )
            if time.monotonic() > self._end:
                raise DemoFailedError(f"the demo took more than {format_duration(PATIENCE)}")
            time.sleep(LOOK)


def _step(jobs: dict[str, Document], act: Act) -> int:
    return int(jobs.get(act.name, {}).get("global_step") or 0)


def _is_over(jobs: dict[str, Document], act: Act) -> bool:
    return act.name in jobs and wording.has_left(jobs[act.name])


if __name__ == "__main__":
    sys.exit(main())
