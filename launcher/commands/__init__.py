"""The subcommands of ``efctl``, one file each.

To add one: a module here with a function ``command``, whose signature and docstring are its options
and its help (see ``interface``), and a line in this table. A ``-`` in the name is a ``_`` in the
file's.
"""

COMMANDS = {
    "status": "where one job stands, or all that run",
    "list": "all jobs, those that ended too",
    "describe": "everything known about one job",
    "logs": "what a job's ranks have written",
    "cancel": "end a job",
    "rescale": "give a job a fixed number of GPUs, or back to the scheduler",
    "profile": "measure how fast a script is on 1, 2, 4, ... GPUs, and keep that",
    "nodes": "the machines, their GPUs and who uses them",
    "profiles": "the scaling curves that ship: list, show, plot, import",
    "simulate": "replay a trace of jobs under a policy",
    "trace": "make a trace of jobs to simulate",
    "plot": "draw what simulations found",
    "coordinator": "run the coordinator in the foreground",
    "agent": "run this machine's agent in the foreground",
}
