"""The subcommands of ``efctl``, one file each.

To add one: a module here with a function ``command``, whose signature and docstring are its options
and its help (see ``interface``), and a line in this table. A ``-`` in the name is a ``_`` in the
file's.
"""

COMMANDS = {
    "status": "state of one job, or of all that run",
    "list": "all jobs, including finished ones",
    "describe": "everything known about one job",
    "logs": "output of a job's ranks",
    "cancel": "cancel a job",
    "rescale": "give a job a fixed number of GPUs, or let the scheduler choose",
    "profile": "measure how fast a script is on 1, 2, 4, ... GPUs",
    "nodes": "nodes, their GPUs and the jobs that use them",
    "profiles": "the scaling curves that ship: list, show, plot, import",
    "simulate": "replay a trace of jobs under a policy",
    "trace": "make a trace of jobs to simulate",
    "plot": "plot the results of simulations",
    "coordinator": "run the coordinator in the foreground",
    "agent": "run this machine's agent in the foreground",
}
