"""``eflaunch``: submit a training script with a deadline, and follow it to its end."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, replace

from eflib import __version__
from eflib.errors import UsageError
from eflib.launcher import arguments, cli, values
from eflib.launcher.interface import interface_of, option_lines, wrapped

USAGE = "usage: eflaunch [options] SCRIPT [the script's own arguments]"
ABOUT = """\
Train a PyTorch script by a deadline. You say when it must be done, not on how many GPUs: eflaunch
tells at once whether that can be promised, and then gives the job more or fewer GPUs, without
restarting it, so that every promise is kept."""
EXAMPLES = """\
examples:
  eflaunch --deadline 2h train.py --lr 0.1      done in two hours, or refused with a reason
  eflaunch --deadline 18:00 --soft train.py     better late than refused
  eflaunch train.py                             no deadline: on what the others leave
  eflaunch --slots 4 train.py                   no GPU here: four CPU slots stand in for them
  eflaunch --detach --json -m my.training       a module; submit, print the decision, return"""
FOOTER = """\
Arguments after SCRIPT are passed to it. Every option can also be set as EFLIB_<OPTION>, as in
EFLIB_DEADLINE=2h. See jobs with: efctl status

Exit status: 0 done, 1 the job failed, 2 wrong usage, 3 refused at admission, 5 the coordinator or
the store cannot be reached, 70 a bug in eflib, 128+n signal n"""


@dataclass(frozen=True)
class LaunchRequest:
    """What a person asked for, each value read but not yet held against the world.

    Attributes:
        script: The script's path, or a module's name where ``is_module``.
        arguments: The script's own, untouched.
        deadline: As it was written.
    """

    script: str = ""
    arguments: tuple[str, ...] = ()
    is_module: bool = False
    deadline: str | None = None
    is_soft: bool = False
    slots: int | None = None
    max_gpus: int | None = None
    name: str | None = None
    profile: str | None = None
    log_dir: str | None = None
    store: str | None = None
    env: tuple[str, ...] = ()
    as_json: bool = False
    detach: bool = False
    dry_run: bool = False


def request(  # noqa: PLR0913 - each is an option; fire reads them here
    *,
    deadline: str | None = None,
    soft: bool = False,
    slots: str | None = None,
    max_gpus: str | None = None,
    name: str | None = None,
    profile: str | None = None,
    log_dir: str | None = None,
    store: str | None = None,
    env: str | None = None,
    module: bool = False,
    json: bool = False,
    detach: bool = False,
    dry_run: bool = False,
    version: bool = False,
) -> LaunchRequest:
    """Say what is to be launched; pure.

    Args:
        deadline: When it must be done: 2h, 90m, 1h30m, 18:00, 2026-12-01T09:00 or now+2hours.
            Without one the job uses whatever the others leave idle.
        soft: Accept the job even if it will be late; jobs with a hard deadline come first.
        slots: Number of CPU slots, used in place of GPUs on a machine without any, for the agent
            that is started here if none is running. Also --nproc-per-node.
        max_gpus: Never give it more GPUs than this.
        name: Name of the job; the script's name by default.
        profile: Its measured scaling curve. Without one, that kept from an earlier run is used; if
            there is none, it is measured first.
        log_dir: Folder for its logs, one file per rank and generation.
        store: Where the cluster is: a folder or tcp://host:port. By default one of your own, in
            $EFLIB_HOME.
        env: Variables to send to the job besides those that Python, torch and the like read, as in
            --env DATA,WANDB_API_KEY; secrets go only so. They can be read in the store.
        module: SCRIPT is a module's name, as with python -m.
        json: Print one JSON object, with the decision and the final status, and nothing else.
        detach: Return as soon as the decision is known; print the job's id.
        dry_run: Check everything, print what would be submitted, and do nothing.
        version: Print the version.
    """
    if version:
        return LaunchRequest()
    return LaunchRequest(
        is_module=module,
        deadline=deadline,
        is_soft=soft,
        slots=values.number(slots, "--slots", most=values.MAX_SLOTS),
        max_gpus=values.number(max_gpus, "--max-gpus"),
        name=name,
        profile=profile,
        log_dir=log_dir,
        store=store,
        env=values.names(env, "--env"),
        as_json=json,
        detach=detach,
        dry_run=dry_run,
    )


INTERFACE = replace(interface_of(request), ends_at_script=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    words = sys.argv[1:] if argv is None else argv
    return cli.guarded(lambda: _run(words))


def parse(argv: list[str]) -> LaunchRequest:
    """Return what a command line, completed from the environment, asks for.

    Raises:
        UsageError: It cannot be read.
    """
    words = arguments.split(argv, INTERFACE)
    arguments.add_environment(words, INTERFACE, os.environ)
    script, *own = words.arguments or [""]
    if not script:
        raise UsageError("no script was given", hint=f"{USAGE}; more with: eflaunch --help")
    values.text(script, "SCRIPT")
    options = arguments.Words(options=words.options)
    asked: LaunchRequest = arguments.call(
        "eflaunch", replace(INTERFACE, ends_at_script=False), options
    )
    return replace(asked, script=script, arguments=tuple(own))


def help_text(width: int) -> str:
    """Return what ``--help`` prints, wrapped to a width in characters."""
    options = option_lines(INTERFACE.options.values(), width=width)
    about, footer = wrapped(ABOUT, width), wrapped(FOOTER, width)
    return "\n\n".join([USAGE, about, EXAMPLES, f"options:\n{options}", footer])


def _run(argv: list[str]) -> int:
    words = arguments.split(argv, INTERFACE)
    if words.wants_help or not argv:
        print(help_text(min(100, shutil.get_terminal_size().columns)))
        return 0 if argv else 2
    if words.options.get("version"):
        print(f"eflaunch {__version__}")
        return 0
    asked = parse(argv)
    # What acts needs the store and the coordinator; help and usage errors come without them.
    from eflib.launcher.launch import launch  # noqa: PLC0415

    return launch(asked)
