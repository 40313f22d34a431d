"""The control plane: the scheduler and all jobs, as one pure fold over what happened.

``handle(input, now)`` takes one JSON object and changes the state; what should be done about it is
read off afterwards: assignments, proposals, documents, and the effects that accumulate. The same
inputs give the same state, which is how a coordinator comes back from its journal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from eflib import scheduling as core
from eflib.coordinator.failures import Failures
from eflib.coordinator.job import Job, State
from eflib.coordinator.measure import Measurer
from eflib.coordinator.membership import Membership, Seat, Stage
from eflib.messages.codec import decode, to_builtins
from eflib.messages.generations import PAUSE, STOP, Generation
from eflib.messages.records import WorkerAssignment
from eflib.profiler import refine
from eflib.profiler.fit import Observation
from eflib.scheduling import Gpu

if TYPE_CHECKING:
    from collections.abc import Callable

Message = dict[str, Any]


@dataclass(frozen=True)
class Effect:
    """Something to do once the inputs are in the journal.

    ``kind`` is ``reply`` (key: request), ``spec`` or ``curve`` (key: job), ``exit`` (key: worker).
    """

    kind: str
    key: str
    body: Message


class ControlPlane:
    """All that the coordinator knows and decides.

    Args:
        settings: The policy's costs and margins.
    """

    def __init__(self, settings: core.SchedulerSettings) -> None:
        self.scheduler = core.Scheduler(settings)
        self.jobs: dict[str, Job] = {}
        self.nodes: dict[str, Message] = {}
        self.num_jobs = 0
        self.effects: list[Effect] = []
        self._failures = Failures(self)
        self._measurer = Measurer(self)
        self._handlers: dict[str, Callable[[Message, float], None]] = {
            "begin": self._on_begin,
            "submit": self._on_submit,
            "profile": self._on_submit,
            "cancel": self._on_cancel,
            "rescale": self._on_rescale,
            "node_joined": self._on_node_joined,
            "node_left": self._on_node_gone,
            "node_lost": self._on_node_gone,
            "worker_started": self._on_worker_started,
            "worker_exited": self._failures.on_worker_exited,
            "worker_ready": self._on_worker_ready,
            "switched": self._on_switched,
            "measured": self._measurer.on_measured,
            "finished": self._on_finished,
            "progress": self._on_progress,
            "generation": self._on_generation,
            "time": lambda message, now: None,
        }

    # In ------------------------------------------------------------------------------------------

    def handle(self, message: Message, now: float) -> bool:
        """Take in one input, then let time pass; False for an input of no known type."""
        handler = self._handlers.get(str(message.get("type")))
        if handler is None:
            return False
        handler(message, now)
        self.pass_time(now)
        return True

    def pass_time(self, now: float) -> bool:
        """Do what has come due; True if anything changed."""
        changed = False
        wakeup = self.scheduler.next_wakeup(now)
        if wakeup is not None and wakeup <= now:
            self.schedule((core.TimePassed(),), now)
            changed = True
        for job in self._present():
            if job.is_live:
                changed = self._measurer.pass_time(job, now) or changed
                changed = self._failures.settle(job, now) or changed
            changed = job.members.step(now) or changed
        return changed

    def proposals(self, now: float) -> list[tuple[Job, Generation]]:
        """Return the generations to make; what becomes of each comes back as ``generation``."""
        found = []
        for job in self._present():
            generation = job.members.proposal(now, partial(self._is_free, job), self._endpoint)
            if generation is not None:
                found.append((job, generation))
        return found

    # Out -----------------------------------------------------------------------------------------

    def live_jobs(self) -> list[Job]:
        """Return the jobs that have not ended, in order of submission."""
        return [job for job in self.jobs.values() if job.is_live]

    def _present(self) -> list[Job]:
        """Return the jobs that are live or still have workers."""
        return [job for job in self.jobs.values() if job.is_live or job.members.alive()]

    def is_idle(self) -> bool:
        """True when no job is live and no worker of any job has a process."""
        return not self._present()

    def assignments(self) -> dict[str, list[Message]]:
        """Return the workers that each node should run."""
        wanted: dict[str, list[Message]] = {node: [] for node in self.nodes}
        for job in self.jobs.values():
            for seat in job.members.wanted():
                if seat.gpu.node in wanted:
                    wanted[seat.gpu.node].append(_plain(self._assignment(job, seat)))
        return wanted

    def document(self, job: Job, progress: Message, now: float) -> Message:
        """Return a job's status document."""
        return job.document(self.scheduler.view(job.job, now), progress or job.progress, now)

    def take_effects(self) -> list[Effect]:
        """Return what should be done, once."""
        effects, self.effects = self.effects, []
        return effects

    def _assignment(self, job: Job, seat: Any) -> WorkerAssignment:  # noqa: ANN401
        peers = [one for one in job.members.target if one.node == seat.gpu.node]
        newest = job.members.newest
        host, port = newest.master_addr, newest.master_port
        if (host, port) not in map(self._endpoint, self.nodes):  # none yet, or its node is gone
            host, port = self._endpoint(seat.gpu.node)
        return WorkerAssignment(
            worker=seat.worker,
            job=job.job,
            job_name=job.name,
            slot=seat.gpu.index,
            generation=seat.generation,
            rank=seat.rank,
            world_size=max(seat.world_size, 1),
            local_rank=peers.index(seat.gpu) if seat.gpu in peers else 0,
            local_world_size=max(len(peers), 1),
            mode=seat.mode,
            log_dir=job.log_dir,
            checkpoint_dir=str(job.request["checkpoint_dir"]),
            master_addr=host,
            master_port=port,
        )

    def _endpoint(self, node: str) -> tuple[str, int]:
        record = self.nodes.get(node, {})
        return str(record.get("store_host", "")), int(record.get("store_port", 0))

    def _is_free(self, job: Job, gpu: Gpu) -> bool:
        """Tell whether no other job's worker trains on a slot."""
        return not any(
            seat.gpu == gpu and seat.stage is Stage.MEMBER
            for other in self.jobs.values()
            if other is not job
            for seat in other.members.alive()
        )

    # The scheduler -------------------------------------------------------------------------------

    def schedule(self, events: tuple[core.Event, ...], now: float) -> tuple[core.Command, ...]:
        """Hand what happened at one instant to the scheduler and carry out its commands."""
        commands = self.scheduler.handle_all(events, now)
        for command in commands:
            self._obey(command, now)
        return commands

    def _obey(self, command: core.Command, now: float) -> None:
        job = self.jobs.get(command.job_id)
        if job is None:
            return
        match command:
            case core.Admitted(_, finish):
                job.projected_finish = finish
                job.move(State.PENDING, "", now)
            case core.Rejected(_, reason, earliest):
                job.earliest_deadline = earliest
                job.members.ending = STOP
                job.move(State.REJECTED, reason, now)
            case core.Assigned(_, gpus):
                if job.measuring is None and job.is_live and job.finished_step is None:
                    self._aim(job, gpus, now)
            case core.PromiseBroken(_, reason):
                job.tell(now, f"the deadline cannot be kept any more: {reason}")
                job.reason = reason
            case core.ProfilingExpired():
                self._measurer.expired(job, now)

    def _aim(self, job: Job, gpus: tuple[Gpu, ...], now: float) -> None:
        before, after = len(job.members.target), len(gpus)
        view = self.scheduler.view(job.job, now)
        job.members.aim(gpus, view.reason if view else "")
        if not job.cancelling:
            job.members.ending = ""
        job.tell(now, f"{before} -> {after} slots" + (f": {view.reason}" if view else ""))
        if not gpus and job.state is State.RUNNING:
            job.members.ending = PAUSE
            job.move(State.PAUSED, "waits for slots: all are promised to others", now)
        elif gpus and job.state is State.PAUSED:
            job.move(State.PENDING, "resumes", now)

    def feed(self, job: Job, now: float) -> None:
        """Tell the scheduler how far a job is."""
        step = job.progress.get("global_step")
        if step is not None and job.job in self.scheduler.jobs():
            self.schedule((core.JobProgressed(job.job, float(step)),), now)

    def admit(self, job: Job, now: float) -> None:
        """Ask the scheduler whether a job whose curve and end are known may run."""
        asked = core.JobRequest(
            job.job,
            self._measurer.curve(job),
            total_steps=float(job.announce["max_steps"]),
            submitted_at=job.submitted,
            deadline=job.request.get("deadline"),
            soft=bool(job.request.get("soft")),
            max_gpus=job.request.get("max_gpus"),
        )
        # One instant: the lent slots come back and the job asks, so that nobody grows in between.
        self.schedule((core.ProfilingEnded(job.job), core.JobSubmitted(asked)), now)

    def measure_again(self, job: Job, reason: str, now: float) -> None:
        """Begin a profiling run anew that broke off by no fault of the script."""
        self._measurer.begin_again(job, reason, now)

    def keep_curve(self, job: Job) -> None:
        """Have the job's curve written to the folder of measured curves."""
        self.effects.append(Effect("curve", job.job, {}))

    def end(self, job: Job, state: State, reason: str, now: float) -> None:
        """End a job; its GPUs are free for others as soon as its workers have gone."""
        job.members.ending = job.members.ending or STOP
        job.members.aim(())
        if job.measuring is not None:
            job.measuring = None
            self.schedule((core.ProfilingEnded(job.job),), now)
        if job.job in self.scheduler.jobs():
            self.schedule((core.JobEnded(job.job),), now)
        job.move(state, reason, now)

    # Requests ------------------------------------------------------------------------------------

    def reply(self, message: Message, **body: Any) -> None:  # noqa: ANN401 - JSON values
        """Answer a request."""
        if message.get("request"):
            self.effects.append(Effect("reply", str(message["request"]), body))

    def _refuse(self, message: Message, code: str, problem: str, hint: str = "") -> None:
        self.reply(message, error={"code": code, "problem": problem, "hint": hint})

    def _on_begin(self, message: Message, now: float) -> None:
        """Carry the counter on from the journal before this one."""
        del now
        self.num_jobs = int(message.get("num_jobs", 0))

    def _on_submit(self, message: Message, now: float) -> None:
        self.num_jobs += 1
        name = str(message["name"])
        job_id = f"{name}-{self.num_jobs}"
        folder = f"{message['job_root']}/{job_id}"
        request = {
            **message,
            "log_dir": message.get("log_dir") or f"{folder}/logs",
            "checkpoint_dir": f"{folder}/checkpoints",
        }
        job = Job(job_id, name, request, now, Membership(job_id))
        job.only_profile = message["type"] == "profile"
        job.expects_curve = bool(message.get("expects_curve")) and not job.only_profile
        profile = message.get("profile") if not job.only_profile else None
        if profile:
            points = profile["points"].items()
            job.observed = {int(size): Observation(float(rate)) for size, rate in points}
            job.expects_curve = True
        self.jobs[job_id] = job
        job.tell(now, "submitted")
        spec = {name: request.get(name) for name in ("script", "module", "argv", "cwd", "env")}
        spec["checkpoint_dir"] = request["checkpoint_dir"]
        self.effects.append(Effect("spec", job_id, spec))
        self.reply(message, job=job_id, name=name, log_dir=request["log_dir"])
        if not self.nodes:
            job.reason = "waits for a node: none has joined yet"

    def find(self, name: object) -> Job | None:
        """Return a job by id, or the newest live one of this name."""
        if name in self.jobs:
            return self.jobs[str(name)]
        named = [job for job in self.jobs.values() if job.name == name]
        return max(named, key=lambda job: (job.is_live, job.submitted), default=None)

    def _on_cancel(self, message: Message, now: float) -> None:
        job = self.find(message.get("job"))
        if job is None or not job.is_live:
            what = "there is no live job" if job is None else f"job {job.name!r} has ended:"
            self._refuse(message, "usage", f"{what} {message.get('job')!r}")
            return
        job.cancelling = True
        self.end(job, State.CANCELLED, str(message.get("reason") or ""), now)
        self.reply(message, job=job.job, state=job.state.value)

    def _on_rescale(self, message: Message, now: float) -> None:
        job = self.find(message.get("job"))
        if job is None or not job.is_live:
            self._refuse(message, "usage", f"there is no live job {message.get('job')!r}")
            return
        if job.job not in self.scheduler.jobs():
            self._refuse(
                message,
                "usage",
                f"job {job.name!r} is {job.state.value.lower()}: it cannot be rescaled yet",
                "wait until it is admitted",
            )
            return
        num = message.get("num_gpus")
        size = None if num is None else int(num)
        commands = self.schedule((core.SizePinned(job.job, size),), now)
        refused = next((one for one in commands if isinstance(one, core.PinRefused)), None)
        if refused is not None:
            self._refuse(message, "rescale-refused", refused.reason)
            return
        job.pinned = size
        job.tell(now, "back to the policy" if num is None else f"held at {num} by an operator")
        self.reply(message, job=job.job, num_gpus=num, target=len(job.members.target))

    # Nodes ---------------------------------------------------------------------------------------

    def _on_node_joined(self, message: Message, now: float) -> None:
        node = str(message["node"])
        self.nodes[node] = dict(message["record"])
        self.schedule((core.NodeJoined(node, int(message["record"]["slots"])),), now)
        for job in self.live_jobs():
            if self._measurer.complete(job):  # there are more sizes now that a job could have
                self._measurer.retell(job, now)

    def _on_node_gone(self, message: Message, now: float) -> None:
        node = str(message["node"])
        if self.nodes.pop(node, None) is None:
            return
        for job in self.jobs.values():
            for seat in job.members.alive():
                if seat.gpu.node == node and message["type"] == "node_lost":
                    job.members.exited(seat.worker)
                    self._put_lost_on_record(job, seat, node)
        self.schedule((core.NodeLost(node),), now)
        for job in self.live_jobs():
            self._measurer.node_gone(job, node, now)

    def _put_lost_on_record(self, job: Job, seat: Seat, node: str) -> None:
        """Let peers on other nodes know of an end that no agent can tell any more."""
        error = {"message": f"lost with node {node}, which gave no sign of life", "traceback": ""}
        record = {"node": node, "job": job.job, "worker": seat.worker, "error": error}
        self.effects.append(Effect("exit", seat.worker, record))

    # Workers -------------------------------------------------------------------------------------

    def _on_worker_started(self, message: Message, now: float) -> None:
        del now
        job = self.jobs.get(str(message.get("job")))
        if job is not None:
            job.members.started(str(message["worker"]))

    def _on_worker_ready(self, message: Message, now: float) -> None:
        job = self.jobs.get(str(message.get("job")))
        if job is None:
            return
        job.members.ready(str(message["worker"]), now)
        if job.measuring is not None:
            self._measurer.on_ready(job, message, now)

    def _on_generation(self, message: Message, now: float) -> None:
        job = self.jobs.get(str(message.get("job")))
        if job is not None:
            job.members.saw(decode(json.dumps(message["record"]).encode(), Generation), now)

    def _on_switched(self, message: Message, now: float) -> None:
        job = self.jobs.get(str(message.get("job")))
        if job is None:
            return
        number = int(message["generation"])
        job.furthest_step = max(job.furthest_step, int(message["step"]) + 1)
        if number != job.members.newest.number:
            job.members.switched(number, now)
            return  # it was left again already, or belongs to a profiling run
        job.members.switched(number, now)
        if job.measuring is not None:
            return
        job.deviations = 0  # of reports in a row, at one size
        fields = [
            "generation",
            "step",
            "from",
            "to",
            "pause_s",
            "parts",
            "reason",
            "shares",
            "passes",
        ]
        record = {name: message.get(name) for name in fields}
        if message.get("from"):
            job.rescales.append(record)
            job.tell(
                now,
                f"rescaled {message['from']} -> {message['to']} at step {message['step']}, "
                f"pause {float(message['pause_s']):.3f} s",
            )
        if job.is_live and job.state is not State.RUNNING and job.members.target:
            job.move(State.RUNNING, "", now)

    def _on_finished(self, message: Message, now: float) -> None:
        job = self.jobs.get(str(message.get("job")))
        is_early = job is not None and job.state in {State.SUBMITTED, State.PROFILING}
        if job is None or not job.is_live or is_early:
            return
        is_news = job.finished_step is None  # survivors of a loss in the last step say it again
        job.finished_step = int(message["step"])
        job.members.is_over = True
        if not is_news:
            return
        job.tell(now, f"training ended at step {job.finished_step}")
        if job.job in self.scheduler.jobs():
            self.schedule((core.JobEnded(job.job),), now)  # its future is free for others

    def _on_progress(self, message: Message, now: float) -> None:
        """Take in a trainer's progress; correct the curve when live steps say otherwise."""
        job = self.jobs.get(str(message.get("job")))
        if job is None or job.measuring is not None or not job.is_live:
            return
        job.progress, job.progress_at = dict(message["progress"]), now
        job.furthest_step = max(job.furthest_step, int(job.progress.get("global_step") or 0))
        self.feed(job, now)
        size, rate = job.progress.get("world_size"), job.progress.get("steps_per_s")
        known = {**job.guessed, **job.points}
        if not size or not rate or int(size) not in known:
            job.deviations = 0
            return
        factor = refine.drift(job.points, int(size), float(rate))
        is_news = int(size) in job.guessed or refine.is_drift(factor)
        job.deviations = job.deviations + 1 if is_news else 0
        if job.deviations >= refine.PATIENCE:
            job.deviations = 0
            self._measurer.learn(job, int(size), float(rate), now)


def _plain(assignment: WorkerAssignment) -> Message:
    fields: Message = dict(to_builtins(assignment).items())  # type: ignore[attr-defined]
    return fields
