import pytest

from eflib.errors import UsageError
from eflib.scheduling import ScalingCurve
from eflib.simulator.trace import Trace, TraceJob, check_curves, read_trace

FIRST = "job_id,submission_time,num_iteration,model_name,deadline,batch_size,num_gpu,duration\n"
SECOND = "job_id,submit_time,iteration,model_name,ddl,batch_size,num_gpu,duration,best_effort\n"


def written(tmp_path, text):
    file = tmp_path / "trace.csv"
    file.write_text(text)
    return file


def test_both_spellings_of_the_columns_are_read_alike(tmp_path):
    one = read_trace(written(tmp_path, FIRST + "a,5,100,gpt2,900,128,4,60\n"))
    two = read_trace(written(tmp_path, SECOND + "a,5,100,gpt2,900,128,4,60,0\n"))
    assert one == two
    assert one.jobs == (TraceJob("a", 5.0, 100.0, "gpt2", 128, 900.0, 4, 60.0, line=2),)


def test_a_best_effort_job_has_no_deadline(tmp_path):
    trace = read_trace(written(tmp_path, SECOND + "a,5,100,gpt2,900,128,4,60,1\n"))
    assert trace.jobs[0].deadline is None


def test_jobs_come_in_the_order_of_submission(tmp_path):
    rows = "a,50,100,gpt2,900,128,4,60\nb,5,100,gpt2,900,128,4,60\n\n"
    trace = read_trace(written(tmp_path, FIRST + rows))
    assert [job.job_id for job in trace.jobs] == ["b", "a"]
    assert trace.name == "trace"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            "a,soon,100,gpt2,900,128,4,60",
            "trace.csv:2:2: submission_time should be a number, not 'soon'",
        ),
        (
            "a,5,0,gpt2,900,128,4,60",
            "trace.csv:2:3: num_iteration should be a number above 0, not '0'",
        ),
        ("a,5,100,,900,128,4,60", "trace.csv:2:4: model_name is missing"),
        ("a,5,100,gpt2,nan,128,4,60", "trace.csv:2:5: deadline should be a number, not 'nan'"),
        ("a,5,100,gpt2,900,12.5,4,60", "trace.csv:2:6: batch_size should be an integer"),
        (
            "a,5,100,gpt2,900,128,0,60",
            "trace.csv:2:7: num_gpu should be an integer of at least 1",
        ),
        ("a,5,100,gpt2,900,128,4,-1", "trace.csv:2:8: duration should be a number of at least 0"),
        ("a,5,100", "trace.csv:2:4: model_name is missing"),
    ],
)
def test_a_bad_row_is_refused_by_file_line_and_column(tmp_path, row, said):
    with pytest.raises(UsageError) as error:
        read_trace(written(tmp_path, FIRST + row + "\n"))
    assert said in error.value.problem


def test_a_bad_flag_is_refused(tmp_path):
    with pytest.raises(UsageError, match="2:9: best_effort should be 0 or 1, not 'yes'"):
        read_trace(written(tmp_path, SECOND + "a,5,100,gpt2,900,128,4,60,yes\n"))


def test_the_same_job_twice_is_refused(tmp_path):
    row = "a,5,100,gpt2,900,128,4,60\n"
    with pytest.raises(UsageError, match="3:1: job 'a' is there already") as error:
        read_trace(written(tmp_path, FIRST + row + row))
    assert "first on line 2" in error.value.render()


def test_a_missing_column_is_named_in_both_spellings(tmp_path):
    with pytest.raises(UsageError, match="no column 'deadline' or 'ddl'"):
        read_trace(written(tmp_path, FIRST.replace("deadline", "limit") + "\n"))


def test_an_empty_file_and_a_missing_one_are_refused(tmp_path):
    with pytest.raises(UsageError, match="the trace is empty"):
        read_trace(written(tmp_path, ""))
    with pytest.raises(UsageError, match="cannot read the trace"):
        read_trace(tmp_path / "none.csv")


def test_a_job_without_a_curve_is_named_with_what_is_known():
    job = TraceJob("a", 0.0, 1.0, "gpt2", 64, 10.0, line=7)
    with pytest.raises(UsageError, match="trace:7: no scaling curve for 'gpt2'") as error:
        check_curves(Trace((job,)), {("gpt2", 128): ScalingCurve({1: 1.0})})
    assert "batch sizes 128" in error.value.hint
    with pytest.raises(UsageError) as error:
        check_curves(Trace((job,)), {("bert", 64): ScalingCurve({1: 1.0})})
    assert "known models: bert" in error.value.hint
