"""Many short trainings: in worker processes, to be stopped and started again.

Two processes of one thread each are faster than one with two threads on
networks as small as those of the examples.
"""

import json
import multiprocessing
import os

from tqdm import tqdm


def saved(path):
    """What a run has so far: a dict, "row/seed" -> numbers."""
    return json.loads(path.read_text()) if path.exists() else {}


def save(path, results):
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(results, indent=1, sort_keys=True))
    os.replace(unfinished, path)


def one_thread():
    """For the beginning of a worker, before TensorFlow computes anything."""
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        # Several workers share it.
        tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def run_jobs(jobs, path, settings, prepare, work, processes):
    """Does all jobs that `path` does not hold yet, and writes it after each.

    Args:
        jobs: Lists whose first item is the job's key.
        path: The file of results.
        settings: A dict: results made with others are refused.
        prepare: A function of a module, called with `settings` before all,
            such as to train a teacher that all jobs share. What it returns is
            the result "first".
        work: A function of a module: a job -> `(key, result)`.
        processes: Number of workers.
    """
    results = saved(path)
    if results.setdefault("settings", settings) != settings:
        raise SystemExit(f"{path} was made with {results['settings']}")
    jobs = [job for job in jobs if job[0] not in results]
    if not jobs:
        return
    spawn = multiprocessing.get_context("spawn")
    if "first" not in results:
        with spawn.Pool(1) as pool:
            results["first"] = pool.apply(prepare, (settings,))
        save(path, results)
    # New processes from time to time: graphs of old ones are never freed.
    with spawn.Pool(processes, maxtasksperchild=8) as pool:
        progress = tqdm(pool.imap_unordered(work, jobs), total=len(jobs))
        for key, result in progress:
            results[key] = result
            save(path, results)
            progress.set_postfix_str(key)
