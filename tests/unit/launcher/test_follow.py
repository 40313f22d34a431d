import io

import pytest

from eflib.errors import CoordinatorUnreachableError
from eflib.launcher import follow
from eflib.launcher.follow import Clock, Follower
from eflib.launcher.screen import Screen


class Source:
    """Documents one look after the other; the last one stays."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)
        self.away = False
        self.managed = True
        self.lost = []
        self.present = ["n0"]

    def status(self, job_id):
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def coordinator(self):
        return None if self.away else {"pid": 1, "managed": self.managed}

    def nodes(self):
        return [{"node": node} for node in self.present]

    def lost_nodes(self):
        return self.lost


class FakeTime:
    """A clock that only sleeping moves; ``on_sleep`` is called with each new time."""

    def __init__(self):
        self.seconds = 0.0
        self.on_sleep = lambda seconds: None

    def clock(self):
        return Clock(monotonic=lambda: self.seconds, now=lambda: 1000.0, sleep=self.sleep)

    def sleep(self, seconds):
        self.seconds += seconds
        self.on_sleep(self.seconds)


@pytest.fixture
def fake_time():
    return FakeTime()


@pytest.fixture
def make(fake_time):
    def follower(source, restart=lambda: None):
        screen = Screen(io.StringIO(), io.StringIO(), clock=lambda: fake_time.seconds)
        made = Follower(source, "digits-1", screen, restart=restart, clock=fake_time.clock())
        made.out = screen._out.getvalue
        made.err = lambda: screen._err.getvalue().splitlines()
        return made

    return follower


def test_the_decision_is_told_when_the_job_leaves_profiling(make, a_status):
    source = Source(
        None,
        a_status(state="SUBMITTED"),
        a_status(state="PROFILING", reason="measuring at 1, 2 and 4"),
        a_status(state="PENDING"),
    )
    follower = make(source)
    assert follower.until_decided()["state"] == "PENDING"
    assert follower.err() == [
        "digits: submitted",
        "digits: profiling: measuring at 1, 2 and 4",
        "digits admitted as best effort",
    ]


@pytest.mark.parametrize("state", ["REJECTED", "FAILED", "CANCELLED"])
def test_what_is_no_admission_is_left_to_the_caller(make, a_status, state):
    follower = make(Source(a_status(state=state)))
    assert follower.until_decided()["state"] == state
    assert follower.err() == []


def test_the_admission_of_a_job_that_is_done_already_is_told(make, a_status):
    follower = make(Source(a_status(state="SUCCEEDED")))
    follower.until_decided()
    assert follower.err() == ["digits admitted as best effort"]


def test_lines_of_rank_0_are_passed_on_and_rescales_told_once(make, a_status, tmp_path):
    left = "[eflib] digits g1 rank 0: leaves at step 100: holds 2 GPUs\n"
    rescaled = "[eflib] digits g2 rank 0: rescaled 4 -> 2 workers at step 100: 16x4 -> 32x2\n"
    for generation, text in ((1, "one\n" + left), (2, rescaled + "two\nlast")):
        (tmp_path / str(generation)).mkdir()
        (tmp_path / str(generation) / "0.log").write_text(text)
    fields = {"log_dir": str(tmp_path)}
    rescale = {"generation": 2, "step": 100, "from": 4, "to": 2, "pause_s": 0.05}
    source = Source(
        a_status(**fields),
        a_status(**fields, rescales=[rescale]),
        a_status(**fields, rescales=[rescale], state="SUCCEEDED"),
    )
    follower = make(source)
    assert follower.until_ended()["state"] == "SUCCEEDED"
    assert follower.out() == "[digits 0]: one\n[digits 0]: two\n[digits 0]: last\n"
    assert follower.err().count("digits: 4 -> 2 workers at step 100, paused 0.05s") == 1


def test_the_last_worker_of_a_job_that_ended_is_waited_for(make, a_status):
    workers = [{"worker": "w0"}]
    source = Source(
        a_status(state="FAILED", workers=workers, updated=1), a_status(state="FAILED", updated=2)
    )
    follower = make(source)
    assert follower.until_ended()["updated"] == 2
    assert follower.err() == []


def test_a_worker_that_does_not_leave_is_waited_for_within_a_bound(make, a_status, fake_time):
    source = Source(a_status(state="FAILED", workers=[{"worker": "w0"}]))
    assert make(source).until_ended()["state"] == "FAILED"
    assert fake_time.seconds == pytest.approx(follow.LEAVE_SECONDS, abs=1)


def test_a_job_without_a_status_is_not_waited_for_for_ever(make):
    with pytest.raises(CoordinatorUnreachableError) as caught:
        make(Source(None)).until_decided()
    assert caught.value.problem == "waited 30 s for the status of job 'digits-1'"
    assert caught.value.hint == "ask again with: efctl status digits-1"


def test_the_end_of_a_cancelled_job_is_waited_for_within_a_bound(make, a_status):
    assert make(Source(a_status())).until_ended_within(5) is None
    source = Source(None, a_status(), a_status(state="CANCELLED"))
    assert make(source).until_ended_within(5)["state"] == "CANCELLED"


def test_a_coordinator_that_comes_back_by_itself_is_left_alone(make, a_status, fake_time):
    source = Source(a_status())
    started = []

    def act(seconds):
        source.away = 3 < seconds < 10
        if seconds > 20:
            source.statuses = [a_status(state="SUCCEEDED")]

    fake_time.on_sleep = act
    follower = make(source, restart=lambda: started.append(1))
    follower.until_ended()
    assert started == []
    told = [line for line in follower.err() if "coordinator" in line]
    gone = "the coordinator is gone; the job keeps training without it. "
    again = "It will be restarted in 15s unless somebody restarts it before"
    assert told == [gone + again, "the coordinator is running again"]


def test_a_coordinator_that_stays_away_is_started_again(make, a_status, fake_time):
    source = Source(a_status())
    source.away = True
    started = []

    def restart():
        started.append(fake_time.seconds)
        source.away = False
        source.statuses = [a_status(state="SUCCEEDED")]

    make(source, restart=restart).until_ended()
    assert len(started) == 1
    assert started[0] >= follow.RESTART_SECONDS


def test_a_coordinator_that_cannot_be_started_is_given_up_within_a_bound(make, a_status):
    def restart():
        raise CoordinatorUnreachableError("no answer after 10 s")

    source = Source(a_status())
    source.away = True
    follower = make(source, restart=restart)
    with pytest.raises(CoordinatorUnreachableError) as caught:
        follower.until_ended()
    assert caught.value.problem.startswith("the coordinator has not run for 2m")
    assert "it cannot be restarted: no answer after 10 s" in follower.err()


def test_an_agent_that_died_is_started_again(make, a_status, fake_time):
    source = Source(a_status())
    source.lost = ["n0"]
    started = []

    def restart():
        started.append(fake_time.seconds)
        source.lost = []

    def act(seconds):
        if seconds > 8:
            source.statuses = [a_status(state="SUCCEEDED")]

    fake_time.on_sleep = act
    follower = make(source, restart=restart)
    follower.until_ended()
    assert len(started) == 1
    told = [line for line in follower.err() if "agent" in line]
    assert told == [
        "the agent of node n0 has died, and its workers with it; another one is being started",
        "an agent of node n0 is running again",
    ]


@pytest.mark.parametrize("managed", [True, False])
def test_where_no_node_is_left_an_agent_is_started_if_the_coordinator_is_ours(
    make, a_status, fake_time, managed
):
    """The agent of the last coordinator was there as we looked for one, and left with it."""
    source = Source(a_status(state="PROFILING"))
    source.managed, source.present = managed, []
    started = []

    def restart():
        started.append(fake_time.seconds)
        source.present = ["n0"]

    def act(seconds):
        if seconds > 8:
            source.statuses = [a_status(state="SUCCEEDED")]

    fake_time.on_sleep = act
    make(source, restart=restart).until_ended()
    assert len(started) == managed


def test_an_agent_that_somebody_else_started_is_reported_and_left_to_them(
    make, a_status, fake_time
):
    source = Source(a_status())
    source.lost, source.managed = ["n0"], False
    started = []

    def act(seconds):
        if seconds > 30:
            source.statuses = [a_status(state="SUCCEEDED")]

    fake_time.on_sleep = act
    follower = make(source, restart=lambda: started.append(1))
    follower.until_ended()
    assert started == []
    told = [line for line in follower.err() if "agent" in line]
    gone = "the agent of node n0 has died, and its workers with it; "
    assert told == [gone + "start one with: efctl agent"]
