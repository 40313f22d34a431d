import logging

from eflib.launcher.foreground import logged_to_stderr


def test_what_a_part_logs_is_a_line_on_standard_error(capsys):
    log = logging.getLogger("eflib.agent.assemble")
    with logged_to_stderr("agent"):
        log.info("serving %s as node %s", "/store", "n0")
        log.warning("odd \x1b[2J text")
        log.debug("not said")
    log.info("not said")
    assert capsys.readouterr().err == (
        "agent: serving /store as node n0\nagent: warning: odd \\x1b[2J text\n"
    )


def test_an_exception_is_logged_with_its_traceback(capsys):
    with logged_to_stderr("coordinator"):
        log = logging.getLogger("eflib.coordinator")
        log.error("cannot write", exc_info=ValueError("torn"))
    first, last = capsys.readouterr().err.splitlines()
    assert (first, last) == ("coordinator: error: cannot write", "ValueError: torn")
