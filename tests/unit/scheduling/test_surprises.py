import pytest

from eflib.scheduling import (
    CurveMeasured,
    JobEnded,
    JobProgressed,
    JobState,
    NodeJoined,
    NodeLost,
    PinRefused,
    ProfilingDenied,
    ProfilingEnded,
    ProfilingExpired,
    ProfilingGranted,
    ProfilingRequested,
    PromiseBroken,
    ScalingCurve,
    SizePinned,
    TimePassed,
)
from tests.unit.scheduling.builders import Watched, kinds


def test_a_job_that_ends_early_frees_its_future():
    cluster = Watched(4)
    cluster.submit("a", 400, deadline=101.0)
    assert kinds(cluster.submit("b", 200, deadline=60.0)) == ["Rejected"]
    cluster.handle(JobEnded("a"), 1.0)
    assert kinds(cluster.submit("b", 200, deadline=60.0)) == ["Admitted"]


def test_a_promise_survives_the_loss_of_a_node_where_the_rest_suffices():
    cluster = Watched(4, 4)
    cluster.submit("a", 400, deadline=150.0)
    commands = cluster.handle(NodeLost("n1"), 10.0)
    assert kinds(commands) == []
    assert cluster.holds("a") == 4
    assert cluster.view("a").slack > 0


def test_a_promise_that_a_lost_node_breaks_is_told_once_and_the_job_goes_on():
    cluster = Watched(4, 4)
    cluster.submit("a", 400, deadline=60.0)
    commands = cluster.handle(NodeLost("n1"), 10.0)
    assert kinds(commands) == ["PromiseBroken"]
    assert cluster.holds("a") == 4
    assert kinds(cluster.handle(TimePassed(), 20.0)) == []
    assert not cluster.view("a").promised


def test_a_node_that_joins_is_used_at_once():
    cluster = Watched(4)
    cluster.submit("a", 400, deadline=150.0)
    cluster.handle(NodeJoined("n1", 4), 10.0)
    assert cluster.holds("a") == 8


def test_the_same_node_again_changes_nothing():
    cluster = Watched(4)
    cluster.submit("a", 400, deadline=150.0)
    assert cluster.handle(NodeJoined("n0", 4), 1.0) == ()


def test_progress_that_lags_is_made_up_for():
    cluster = Watched(4)
    cluster.submit("a", 200, deadline=200.0)
    cluster.submit("b", 100, deadline=200.0)
    cluster.handle(JobProgressed("a", 0.0), 40.0)
    assert cluster.view("a").slack >= 0


def test_progress_that_lags_too_far_breaks_the_promise_once():
    cluster = Watched(4)
    cluster.submit("a", 400, deadline=110.0)
    commands = cluster.handle(JobProgressed("a", 0.0), 50.0)
    assert [type(c) for c in commands if isinstance(c, PromiseBroken)] == [PromiseBroken]
    assert kinds(cluster.handle(JobProgressed("a", 10.0), 60.0)) == []


def test_a_slower_curve_takes_more_gpus():
    cluster = Watched(8)
    cluster.submit("a", 100, deadline=110.0, max_gpus=4)
    cluster.submit("b", 400, deadline=120.0)
    cluster.handle(CurveMeasured("a", ScalingCurve({1: 0.5, 2: 1.0, 4: 2.0})), 1.0)
    assert cluster.view("a").slack >= 0


def test_a_job_that_should_be_done_and_is_not_keeps_its_gpus():
    cluster = Watched(4)
    cluster.submit("a", 40, deadline=100.0)
    cluster.handle(TimePassed(), 10.0)
    assert cluster.holds("a") == 4
    assert cluster.scheduler.next_wakeup(10.0) == pytest.approx(11.0)


def test_a_deadline_that_passes_breaks_the_promise_and_the_job_goes_on_as_best_effort():
    cluster = Watched(4, overdue_grace=30.0)
    cluster.submit("a", 40, deadline=12.0)
    commands = [*cluster.handle(TimePassed(), 10.0), *cluster.handle(TimePassed(), 13.0)]
    assert kinds(tuple(commands)) == ["PromiseBroken"]
    assert cluster.holds("a") == 4


def test_a_pinned_job_holds_exactly_its_size_and_keeps_what_it_had():
    cluster = Watched(4)
    cluster.submit("a", 1000)
    before = set(cluster.gpus["a"])
    for size in (1, 3, 2, 4):
        cluster.handle(SizePinned("a", size))
        assert cluster.holds("a") == size
        after = set(cluster.gpus["a"])
        assert len(before & after) == min(len(before), len(after))
        before = after
    cluster.handle(SizePinned("a", None))
    assert cluster.view("a").pinned is None


def test_a_pin_to_nothing_makes_the_job_wait():
    cluster = Watched(4)
    cluster.submit("a", 1000)
    cluster.handle(SizePinned("a", 0))
    assert cluster.view("a").state is JobState.WAITING


@pytest.mark.parametrize(
    ("size", "said"), [(9, "has 4 GPUs, not 9"), (4, "promise to another job")]
)
def test_a_pin_that_would_break_a_promise_or_the_cluster_is_refused(size, said):
    cluster = Watched(4)
    cluster.submit("a", 190, deadline=100.0)
    cluster.submit("b", 1000)
    (refused,) = cluster.handle(SizePinned("b", size))
    assert isinstance(refused, PinRefused)
    assert said in refused.reason


def test_a_pin_takes_leftovers_first():
    cluster = Watched(4)
    cluster.submit("a", 100, deadline=200.0)
    cluster.submit("b", 1000)
    commands = cluster.handle(SizePinned("b", 3))
    assert kinds(commands) == []
    assert cluster.holds("b") == 3
    assert cluster.view("a").slack >= 0


def test_a_pin_that_endangers_only_its_own_promise_is_told():
    cluster = Watched(4)
    cluster.submit("a", 300, deadline=100.0)
    assert kinds(cluster.handle(SizePinned("a", 1))) == ["PromiseBroken"]


def test_profiling_shrinks_a_running_job_and_leaves_it_a_gpu():
    cluster = Watched(4)
    cluster.submit("a", 100, deadline=200.0)
    assert cluster.holds("a") == 4
    commands = cluster.handle(ProfilingRequested("new", 4, 20.0))
    granted = next(c for c in commands if isinstance(c, ProfilingGranted))
    assert len(granted.gpus) == 2
    assert cluster.holds("a") == 2
    cluster.handle(ProfilingEnded("new"), 5.0)
    assert cluster.holds("a") == 4


def test_profiling_gets_the_largest_power_of_two_that_breaks_no_promise():
    cluster = Watched(4)
    cluster.submit("a", 190, deadline=100.0)
    commands = cluster.handle(ProfilingRequested("new", 4, 60.0))
    granted = next(c for c in commands if isinstance(c, ProfilingGranted))
    assert len(granted.gpus) == 2
    assert cluster.view("a").slack >= 0


def test_profiling_is_denied_where_every_gpu_is_promised():
    cluster = Watched(4)
    cluster.submit("a", 398, deadline=100.0)
    (denied,) = cluster.handle(ProfilingRequested("new", 4, 60.0))
    assert isinstance(denied, ProfilingDenied)


def test_a_profiling_run_that_does_not_end_counts_as_over_in_time():
    cluster = Watched(4)
    cluster.handle(ProfilingRequested("new", 4, 60.0))
    assert cluster.scheduler.next_wakeup(0.0) == 60.0
    assert cluster.handle(TimePassed(), 60.0) == (ProfilingExpired("new"),)


def test_nothing_is_kept_of_jobs_that_ended_or_were_refused():
    cluster = Watched(4)
    cluster.submit("a", 40, deadline=100.0)
    cluster.submit("late", 4000, deadline=100.0)
    cluster.handle(JobEnded("a"), 10.0)
    assert cluster.scheduler.jobs() == ()
    assert "late" not in repr(vars(cluster.scheduler))
    assert not cluster.scheduler.book.jobs


def test_a_clock_that_steps_back_counts_as_standing_still():
    cluster = Watched(4)
    cluster.submit("a", 40, deadline=100.0)
    cluster.handle(TimePassed(), 5.0)
    cluster.handle(TimePassed(), 2.0)
    assert cluster.scheduler.view("a", 5.0).steps_done == pytest.approx(20.0)
