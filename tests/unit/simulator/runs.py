"""Folders as the simulator writes them, made by a simple list scheduler: enough to draw."""

import csv
import json

from eflib.profiles import curves
from eflib.simulator.generate import Draws, generate


def write_run(
    folder, *, policy="elasticflow", nodes=2, num_jobs=20, seed=0, speed=1.0, best_effort=0.0
):
    """Write one run: every job waits for an aligned block, then holds it for its work's time."""
    table, size = curves("a100"), 8
    draws = Draws(seed=seed, best_effort_share=best_effort)
    free_at = [0.0] * (nodes * size)
    jobs, schedule = [], []
    for job in generate(table, num_jobs=num_jobs, mean_gap=600.0, draws=draws):
        count = min(job.num_gpu, len(free_at))
        first = min(
            range(0, len(free_at), count), key=lambda k, n=count: (max(free_at[k : k + n]), k)
        )
        start = max(job.submission_time, *free_at[first : first + count], 0.0)
        rate = table[job.model_name, job.batch_size].throughput(count)
        end = start + min(job.num_iteration / rate, 20_000.0) / speed
        free_at[first : first + count] = [end] * count
        schedule += [(start, job.job_id, f"{first}-{first + count - 1}"), (end, job.job_id, "")]
        jobs.append(
            {
                "job_id": job.job_id,
                "admitted": 1,
                "finish_time": end,
                "met": int(end <= job.deadline),
                "submission_time": job.submission_time,
                "deadline": job.deadline,
                "best_effort": job.best_effort,
                "model_name": job.model_name,
                "batch_size": job.batch_size,
            }
        )
    folder.mkdir(parents=True)
    with (folder / "jobs.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(jobs[0]))
        writer.writeheader()
        writer.writerows(jobs)
    with (folder / "schedule.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["time", "job_id", "gpus"])
        writer.writerows(sorted(schedule))
    summary = {
        "policy": policy,
        "trace": f"made-{seed}.csv",
        "profiles": "a100",
        "nodes": nodes,
        "gpus_per_node": size,
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder
