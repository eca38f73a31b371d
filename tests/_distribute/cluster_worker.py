"""One of several machines (here: processes); started by test_cluster.py.

    python cluster_worker.py INDEX ADDRESSES SCENARIOS FOLDER [CALLBACK [DIES]]

ADDRESSES: host:port of every worker, separated by commas; or slurm:port, where
it is Slurm's variables that say who this is. SCENARIOS: names, separated by
commas; each writes into FOLDER/name. CALLBACK: the one that goes on after a
kill. DIES: the epoch after which the last worker is killed.
"""

import json
import os
import signal
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
INDEX, ADDRESSES = int(sys.argv[1]), sys.argv[2].split(",")
SLURM = ADDRESSES[0].startswith("slurm:")
# Read when tensorflow starts.
if SLURM:
    os.environ |= {
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_PROCID": str(INDEX),
        "SLURM_LOCALID": str(INDEX),
    }
else:
    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": ADDRESSES},
            "task": {"type": "worker", "index": INDEX},
        }
    )

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from replica_scenarios import train  # noqa: E402

import keras_distill as kd  # noqa: E402


class Dies(keras.callbacks.Callback):
    """As a machine does that loses its power."""

    def __init__(self, epoch):
        super().__init__()
        self.last = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.last and INDEX == len(ADDRESSES) - 1:
            os.kill(os.getpid(), signal.SIGKILL)


def resolver():
    if not SLURM:
        return None
    return tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=int(ADDRESSES[0].split(":")[1]),
        gpus_per_node=2,  # It does not know nodes without.
        gpus_per_task=1,
        auto_set_gpu=False,
    )


def run(strategy, scenario, folder):
    # One folder for all workers, as on a shared disk.
    shared = os.path.join(folder, "shared")
    os.makedirs(shared, exist_ok=True)
    name = sys.argv[5] if len(sys.argv) > 5 else "BackupAndRestore"
    backup = getattr(keras.callbacks, name, kd.callbacks.BackupAndResume)
    callbacks = [
        backup(os.path.join(shared, "backup")),
        keras.callbacks.ModelCheckpoint(
            os.path.join(shared, "{epoch}.weights.h5"), save_weights_only=True
        ),
        keras.callbacks.CSVLogger(os.path.join(shared, "log.csv"), append=True),
    ]
    if len(sys.argv) > 6:
        callbacks.append(Dies(int(sys.argv[6])))
    path = os.path.join(folder, f"worker{INDEX}.npz")
    train(strategy, scenario, path, callbacks)


def main():
    strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver())
    for scenario in sys.argv[3].split(","):
        keras.utils.clear_session()
        run(strategy, scenario, os.path.join(sys.argv[4], scenario))


if __name__ == "__main__":
    main()
