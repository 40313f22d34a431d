import pytest

from eflib.errors import CoordinatorUnreachableError
from eflib.launcher import waiting
from eflib.launcher.waiting import Clock, CoordinatorSight, JobWatch, NotInTimeError


class World:
    """A clock that only sleeping moves, and documents that are functions of the time."""

    def __init__(self, status=lambda now: {"state": "RUNNING"}, beats=int):
        self.now = 0.0
        self._status = status
        self._beats = beats

    def status(self, job_id):
        return self._status(self.now)

    def coordinator(self):
        beats = self._beats(self.now)
        return None if beats is None else {"started": 1.0, "beats": beats}

    def clock(self):
        return Clock(monotonic=lambda: self.now, now=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds):
        self.now += seconds

    def wait(self, **options):
        watch = JobWatch(self, "j-1", self.clock())
        options = {"timeout": 60.0, "what": "it", "hint": "look", **options}
        return watch.until(lambda status: status.get("state") == "DONE", **options)


def test_what_is_as_wished_is_returned_at_once():
    world = World(lambda now: {"state": "DONE"})
    assert world.wait() == {"state": "DONE"}
    assert world.now == 0.0


def test_it_is_returned_soon_after_it_came_about():
    world = World(lambda now: {"state": "DONE" if now > 7 else "RUNNING"})
    world.wait()
    assert 7 < world.now <= 7 + 2 * waiting.POLL_SECONDS


def test_the_wait_ends_at_its_bound():
    world = World()
    with pytest.raises(NotInTimeError, match="waited 5 s for it"):
        world.wait(timeout=5.0)
    assert world.now == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("beats", "known_after"),
    [
        (lambda now: None if now > 3 else int(now), waiting.AWAY_SECONDS),
        (lambda now: int(min(now, 3)), waiting.SILENT_SECONDS + waiting.AWAY_SECONDS),
    ],
)
def test_a_coordinator_that_goes_or_falls_silent_ends_the_wait(beats, known_after):
    world = World(beats=beats)
    with pytest.raises(CoordinatorUnreachableError):
        world.wait(timeout=600.0)
    assert 3 + known_after <= world.now <= 3 + known_after + 4 * waiting.LOOK_SECONDS


def test_a_coordinator_that_is_started_again_in_time_is_waited_for():
    world = World(
        status=lambda now: {"state": "DONE" if now > 40 else "RUNNING"},
        beats=lambda now: None if 3 < now < 15 else int(now),
    )
    world.wait(timeout=600.0)
    assert world.now == pytest.approx(40, abs=1)


def test_a_status_that_cannot_be_found_for_a_moment_leaves_the_last_one():
    world = World(lambda now: None if now > 1 else {"state": "RUNNING", "job": "j-1"})
    watch = JobWatch(world, "j-1", world.clock())
    assert watch.look()["state"] == "RUNNING"
    watch.pause(2.0)
    assert watch.look()["state"] == "RUNNING"


def test_a_record_without_a_count_is_believed():
    world = World()
    world.coordinator = lambda: {"pid": 1}
    sight = CoordinatorSight(world, world.clock())
    world.now = 1000.0
    assert sight.away() == 0.0
