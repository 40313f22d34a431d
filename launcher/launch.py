"""Carrying out ``eflaunch``: check, submit, tell the decision, follow to the end."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eflib.errors import EflibError, printable
from eflib.launcher import environment, services, tables, wording
from eflib.launcher.documents import Cluster, open_cluster
from eflib.launcher.follow import Follower
from eflib.launcher.screen import Screen
from eflib.launcher.submission import make_log_folder, submission
from eflib.units import format_deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eflib.launcher.eflaunch import LaunchRequest

CANCEL_SECONDS = 30.0
"""How long a cancelled job may take to end: a grace for its workers, and some."""
_PASSING = {"--deadline", "--slots", "--soft", "--nproc-per-node", "--nproc_per_node"}


@dataclass
class Submitted:
    """A job that the coordinator has taken in, and whoever follows it."""

    job_id: str
    cluster: Cluster
    follower: Follower
    sender: services.RequestSender
    screen: Screen

    @contextmanager
    def held(self, *, stays: bool = False) -> Iterator[None]:
        """Leave nothing behind, however what is done with the job ends.

        Ctrl-C, or a signal that asks us to end, ends the job before it ends us.

        Args:
            stays: The job goes on after us, and so must the processes behind it.
        """
        try:
            yield
        except KeyboardInterrupt:
            self.screen.close()
            self._cancel()
            raise
        finally:
            if not stays:
                services.release(self.cluster)

    def _cancel(self) -> None:
        note = f"cancelling job {self.job_id}; press Ctrl-C again to leave it running"
        self.screen.say(note, style="yellow")
        try:
            self.sender.request("cancel", job=self.job_id)
        except EflibError as error:
            self.screen.say(f"it may still be running: {error.problem}", style="yellow")
            return
        if self.follower.until_ended_within(CANCEL_SECONDS) is None:
            look = f"see: efctl status {self.job_id}"
            self.screen.say(f"it has not ended within {CANCEL_SECONDS:g} s; {look}")


def launch(asked: LaunchRequest) -> int:
    """Submit a job, tell what was decided, and follow it unless told not to.

    Returns:
        The exit status of a job that succeeded, or was admitted and left to itself.

    Raises:
        EflibError: As the job ended, or why it could not be submitted.
    """
    message = submission(asked, now=time.time())
    # With --json standard output is for the one object: the script's lines go to the other.
    screen = Screen(sys.stderr if asked.as_json else sys.stdout, sys.stderr)
    _warn_of_options_behind(asked, screen)
    left_out = environment.left_out(os.environ, asked.env)
    if left_out:
        screen.say(f"note: {left_out}", style="yellow")
    if asked.dry_run:
        _print_plan(message, as_json=asked.as_json)
        return 0
    submitted = submit("submit", asked, message, screen)
    with submitted.held(stays=asked.detach):
        return _follow(asked, submitted.follower)


def submit(kind: str, asked: LaunchRequest, message: dict[str, Any], screen: Screen) -> Submitted:
    """Hand a job to the coordinator, having started one where none runs.

    Args:
        kind: The message's type: ``submit`` or ``profile``.
        asked: The command line, read.
        message: The message's fields.
        screen: Where the job is told of.

    Raises:
        EflibError: The cluster cannot be reached, or refuses the job.
    """
    make_log_folder(message["log_dir"])
    cluster = open_cluster(asked.store, is_new=True)

    def start() -> None:
        services.start(cluster, slots=asked.slots)

    with services.turn(cluster):
        start()
        if cluster.coordinator() is None:
            start()  # it was idle for so long, while its agent came up, that it ended
        _warn_of_slots(asked, cluster, screen)
        sender = services.client(cluster)
        job_id = str(sender.request(kind, **message)["job"])
    follower = Follower(cluster, job_id, screen, restart=start)
    return Submitted(job_id, cluster, follower, sender, screen)


def _follow(asked: LaunchRequest, follower: Follower) -> int:
    decided = follower.until_decided()
    decision = _decision_facts(decided)
    if asked.detach and decided.get("state") != "REJECTED":
        if asked.as_json:
            _print_facts(decided, decision)
        else:
            print(decided["job"])
        return 0
    return _end(asked, follower.until_ended(), decision)


def _end(asked: LaunchRequest, status: wording.Status, decision: dict[str, Any]) -> int:
    if asked.as_json:
        _print_facts(status, decision)
    error = wording.outcome(status, now=time.time())
    if error is not None:
        raise error
    sys.stderr.write(wording.ending(status) + "\n")
    return 0


def _decision_facts(status: wording.Status) -> dict[str, Any]:
    earliest = wording.offered_deadline(status, now=time.time())
    return {
        "accepted": status.get("state") != "REJECTED",
        "reason": status.get("reason"),
        "projected_finish": status.get("projected_finish"),
        "slack_s": status.get("slack_s"),
        "earliest_deadline": earliest,
        "deadline_option": None if earliest is None else f"--deadline {format_deadline(earliest)}",
    }


def _print_facts(status: wording.Status, decision: dict[str, Any]) -> None:
    facts = {**status, "decision": decision}
    if decision["earliest_deadline"] is not None:
        facts["earliest_deadline"] = decision["earliest_deadline"]
    tables.print_json(facts)


def _print_plan(message: dict[str, Any], *, as_json: bool) -> None:
    shown = {name: value for name, value in message.items() if name != "env"}
    if as_json:
        tables.print_json(shown)
        return
    if shown["deadline"] is not None:
        shown["deadline"] = format_deadline(shown["deadline"])
    print("would submit:")
    for name, value in shown.items():
        print(f"  {name:<10} {'-' if value is None else printable(str(value))}")


def _warn_of_options_behind(asked: LaunchRequest, screen: Screen) -> None:
    for word in asked.arguments:
        option = word.partition("=")[0]
        if option in _PASSING:
            screen.say(
                f"note: {option} comes after {asked.script} and is passed to it; to give it to "
                f"eflaunch, put it before",
                style="yellow",
            )


def _warn_of_slots(asked: LaunchRequest, cluster: Cluster, screen: Screen) -> None:
    nodes = cluster.nodes()
    held = sum(int(node.get("slots") or 0) for node in nodes)
    if asked.slots is not None and nodes and held != asked.slots:
        screen.say(
            f"note: --slots {asked.slots} is not used: an agent is already running here, and the "
            f"cluster has {held}; see: efctl nodes",
            style="yellow",
        )
