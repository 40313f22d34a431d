"""A worker's signs of life, as its agent reads them."""

import subprocess
import sys
import time
from pathlib import Path

from eflib import pulse
from tests.helpers.processes import freeze, wait_until

ROOT = Path(__file__).parents[2]


def test_before_the_first_beat_and_without_a_file_there_is_no_sign(tmp_path):
    assert pulse.read(tmp_path / "none") is None
    pulse.Pulse(str(tmp_path / "p"))
    assert pulse.read(tmp_path / "p") is None
    (tmp_path / "torn").write_bytes(b"xx")
    assert pulse.read(tmp_path / "torn") is None


def test_marks_say_since_when_the_main_thread_computes_and_for_how_long_it_may(tmp_path):
    own = pulse.Pulse(str(tmp_path / "p"))
    own.beat()
    before = time.monotonic()
    own.computing(30.0)
    sign = pulse.read(tmp_path / "p")
    assert before <= sign.since <= time.monotonic()
    assert (sign.bound, sign.beat <= sign.since) == (30.0, True)
    with own.idling():
        assert pulse.read(tmp_path / "p").since == 0.0
    assert pulse.read(tmp_path / "p").since > sign.since
    own.idle()
    with own.idling():
        pass
    assert pulse.read(tmp_path / "p").since == 0.0
    own.computing(None)
    assert pulse.read(tmp_path / "p").bound == 0.0


def test_outside_an_agent_marks_go_nowhere():
    pulse.own().computing(1.0)
    pulse.own().idle()


def test_a_process_beats_by_itself_stops_when_it_is_frozen_and_shows_where_a_step_hangs(tmp_path):
    file, log = tmp_path / "p", tmp_path / "log"
    code = (
        "import sys, time\nfrom eflib import pulse\npulse.begin(sys.argv[1])\n"
        "def stuck():\n    time.sleep(600)\n"
        "pulse.own().computing(1.5)\nstuck()"
    )
    with log.open("w") as output:
        child = subprocess.Popen([sys.executable, "-c", code, file], stderr=output, cwd=ROOT)
    try:
        first = wait_until(lambda: pulse.read(file), "a beat")
        wait_until(lambda: pulse.read(file).beat > first.beat, "another beat")
        wait_until(lambda: "in stuck" in log.read_text(), "a stack trace")
        assert "one step has computed for" in log.read_text()
        freeze(child.pid)
        stopped, begin = pulse.read(file).beat, time.monotonic()
        wait_until(lambda: time.monotonic() > begin + 1.5 * pulse.BEAT_SECONDS, "time to pass")
        assert pulse.read(file).beat == stopped
    finally:
        child.kill()
        child.wait()
