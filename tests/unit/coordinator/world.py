"""Agents and trainers as a test plays them, around a control plane that is folded by hand."""

from typing import get_args

import msgspec

from eflib.coordinator.coordinator import SETTINGS
from eflib.coordinator.effects import Answer
from eflib.coordinator.plane import ControlPlane
from eflib.messages.generations import PAUSE, PROFILE
from eflib.messages.inbox import Announce
from eflib.messages.journal import Input

ANNOUNCE = Announce(
    max_steps=1000,
    global_batch_size=64,
    model="0123456789abcdef",
    model_name="Net",
    num_parameters=10,
    dataset_size=100,
    device="cpu",
)
KINDS = {kind.__struct_config__.tag: kind for kind in get_args(Input)}
CURVE = {1: 10.0, 2: 19.0, 4: 34.0}


def an_input(kind, **fields):
    """Return an input of the plane, by the word in its ``type``."""
    return msgspec.convert({**fields, "type": kind}, KINDS[kind], str_keys=True)


def fresh_plane():
    return ControlPlane(SETTINGS)


def fold(inputs, plane=None):
    """Hand inputs with their times to a plane; returns it."""
    plane = plane or fresh_plane()
    for now, message in inputs:
        plane.handle(message, now)
    return plane


def picture(plane, now):
    """Return all that a coordinator would show and ask for: what two equal planes share."""
    return {
        "documents": {job.job: plane.status(job, None, now) for job in plane.jobs.values()},
        "assignments": plane.assignments(),
        "proposals": [(job.job, made) for job, made in plane.proposals(now)],
        "effects": list(plane.effects),
    }


def again(world, message):
    """Hand an input to a world's plane, as it stands."""
    world.inputs.append((world.now, message))
    world.plane.handle(message, world.now)


class Outside:
    """A control plane with nodes, and what happens to it."""

    def __init__(self, nodes=(("n0", 4),)):
        self.plane = fresh_plane()
        self.now = 1000.0
        self.inputs = []
        self.workers = {}
        self.node_of = {}
        self.announced = set()
        self.is_quiet = False  # workers start and say nothing
        self.saved = []  # jobs whose workers left to save
        for node, slots in nodes:
            self.join(node, slots)

    def tell(self, kind, **fields):
        again(self, an_input(kind, **fields))

    def join(self, node, slots):
        record = {"slots": slots, "store_host": node, "store_port": 29500}
        self.tell("node_joined", node=node, record=record)

    def submit(self, name="a", *, kind="submit", curve=CURVE, **fields):
        """Submit a job whose curve is given; ``curve=None`` leaves it to be measured."""
        points = curve and {str(size): rate for size, rate in curve.items()}
        self.tell(
            kind,
            **{
                "request": f"r{len(self.inputs)}",
                "name": name,
                "script": f"{name}.py",
                "argv": [],
                "cwd": "/",
                "env": {},
                "deadline": None,
                "soft": False,
                "max_gpus": None,
                "profile": {"points": points} if points else None,
                "job_root": "/home/jobs",
                "expects_curve": False,
                **fields,
            },
        )
        return list(self.plane.jobs.values())[-1]

    def wait(self, seconds):
        """Let time pass, in steps as a coordinator would notice it."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            self.tell("time")

    def exit(self, worker, *, exitcode=0, number=None, error=None, hang=""):
        assignment = self.workers.pop(worker)
        self.tell(
            "worker_exited",
            node=self.node_of[worker],
            job=assignment.job,
            worker=worker,
            exitcode=None if number else exitcode,
            signal=number,
            error=error,
            hang=hang,
            log=f"{assignment.log_dir}/{worker}.log",
        )

    def kill(self, worker):
        self.exit(worker, number="SIGKILL")

    def hang(self, worker, kind, reason):
        self.exit(worker, number="SIGKILL", error={"message": reason}, hang=kind)


class World(Outside):
    """A control plane with nodes, and workers that do what they are told."""

    def settle(self, rounds=60):
        """Go on until nobody has anything to do."""
        for _ in range(rounds):
            if not self.turn():
                return
        raise AssertionError(f"still busy after {rounds} rounds: {self.states()}")

    def turn(self):
        """Let agents follow their assignments, then trainers the generations; True if any did."""
        busy = self.plane.pass_time(self.now)
        busy = self._follow_assignments() or busy
        for worker in sorted(set(self.workers) - self.announced):
            if not self.is_quiet and worker in self.workers:
                self.ready(worker)
                busy = True
        return self._follow_generations() or busy

    def ready(self, worker):
        self.announced.add(worker)
        job = self.workers[worker].job
        self.tell("worker_ready", job=job, worker=worker, announce=ANNOUNCE)

    def _follow_assignments(self):
        wanted = {}
        for node, assigned in self.plane.assignments().items():
            for one in assigned:
                assert one.worker not in wanted
                wanted[one.worker] = one
                self.node_of[one.worker] = node
        new = [one for one in wanted if one not in self.workers]
        old = [one for one in self.workers if one not in wanted]
        for worker in new:
            self.workers[worker] = wanted[worker]
            fields = {"node": self.node_of[worker], "job": wanted[worker].job}
            self.tell("worker_started", worker=worker, pid=1, **fields)
        for worker in old:
            self.exit(worker, number="SIGTERM")
        return bool(new or old)

    def _follow_generations(self):
        proposals = self.plane.proposals(self.now)
        for job, generation in proposals:
            self.make(job, generation)
        return bool(proposals)

    def make(self, job, generation):
        """Put a generation into the store, and let its members enter it."""
        before = job.members.newest
        self.tell("generation", job=job.job, record=generation)
        leaves = [one.worker for one in before.members if generation.rank_of(one.worker) is None]
        self.tell_switched(job, generation, before)
        for worker in leaves:
            if worker in self.workers:
                self.leave(job, worker, generation)

    def tell_switched(self, job, generation, before):
        if not generation.members:
            return
        fields = {"from": before.world_size, "to": generation.world_size, "step": 1}
        self.tell(
            "switched",
            job=job.job,
            generation=generation.number,
            pause_s=0.1,
            parts={},
            reason=generation.reason,
            **fields,
        )
        if generation.mode == PROFILE:
            size = generation.world_size
            fields = {"steps_per_s": CURVE.get(size, 10.0 * size**0.9), "spread": 0.1}
            self.tell(
                "measured", job=job.job, generation=generation.number, world_size=size, **fields
            )

    def leave(self, job, worker, generation):
        is_pause = not generation.members and generation.action == PAUSE
        if is_pause:
            self.saved.append(job.job)
        self.exit(worker, exitcode=4 if is_pause else 0)

    def finish(self, job):
        """Let training end by its own account, and the workers with it."""
        self.tell("finished", job=job.job, generation=job.members.newest.number, step=1000)
        for worker in self.workers_of(job):
            self.exit(worker)

    # What can be seen ----------------------------------------------------------------------------

    def workers_of(self, job):
        """Return the workers of a job that have a process, in rank order."""
        mine = [one for one, held in self.workers.items() if held.job == job.job]
        rank = job.members.newest.rank_of
        return sorted(mine, key=lambda one: (rank(one) is None, rank(one) or 0, one))

    def states(self):
        return {job.job: job.state.value for job in self.plane.jobs.values()}

    def sizes(self):
        """Return the world size of each job's newest generation."""
        return {job.job: job.members.newest.world_size for job in self.plane.jobs.values()}

    def replies(self):
        return [one.reply for one in self.plane.effects if isinstance(one, Answer)]

    def error(self):
        """Return the error of the last reply."""
        return self.replies()[-1].error
