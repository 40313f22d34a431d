"""``efctl profile``."""

from __future__ import annotations

import sys
import time

from eflib.launcher import curves, tables, values, wording
from eflib.launcher.eflaunch import LaunchRequest
from eflib.launcher.launch import submit
from eflib.launcher.screen import Screen
from eflib.launcher.submission import submission
from eflib.simulator.plots import draw_curves


def command(  # noqa: PLR0913 - each is an option
    script: str,
    *arguments: str,
    module: bool = False,
    slots: str | None = None,
    max_gpus: str | None = None,
    name: str | None = None,
    store: str | None = None,
    env: str | None = None,
    plot: str | None = None,
    json: bool = False,
) -> None:
    """Measure a script's steps per second on 1, 2, 4, ... GPUs, in short runs on free GPUs.

    The curve is kept and used when the script is submitted; the training itself is thrown away.
    Counts that could not be measured are extrapolated, and marked as such.

    Args:
        script: The training script; arguments after it are passed to it.
        arguments: The script's own arguments.
        module: SCRIPT is a module's name, as with python -m.
        slots: Number of CPU slots for the agent that is started here if none is running. Also
            --nproc-per-node.
        max_gpus: Measure on at most this many GPUs.
        name: Name of the run; the script's name by default.
        store: Where the cluster is: a folder or tcp://host:port.
        env: Variables to send to the run, as for eflaunch.
        plot: Draw the curve into this file, as PNG and SVG; needs matplotlib.
        json: Print the run's last status, with its curve, as one JSON object.
    """
    asked = LaunchRequest(
        script=script,
        arguments=arguments,
        is_module=module,
        slots=values.number(slots, "--slots", most=values.MAX_SLOTS),
        max_gpus=values.number(max_gpus, "--max-gpus"),
        name=name,
        store=store,
        env=values.names(env, "--env"),
        as_json=json,
    )
    message = submission(asked, now=time.time())
    submitted = submit("profile", asked, message, Screen(sys.stderr, sys.stderr))
    with submitted.held():
        status = submitted.follower.until_ended()
    if json:
        tables.print_json(status)
    error = wording.outcome(status, now=time.time())
    if error is not None:
        raise error
    curve = curves.from_status(status)
    if curve is None:
        return
    if not json:
        curves.print_curve(curve)
    if plot is not None:
        files = draw_curves([curve], plot)
        print(*files, sep="\n", file=sys.stderr if json else sys.stdout)
