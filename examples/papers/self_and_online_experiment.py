"""The trainings of `self_and_online.py`, on the data of `born_again.py`."""

import functools
import json
import pathlib
import sys
import time

import born_again_experiment
import keras
import numpy as np
import tensorflow as tf
from born_again_experiment import CROSSENTROPY

import keras_distill as kd
from keras_distill.cost import multiply_accumulates

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs

STAGES = ["stage1", "stage2", "stage3"]


class SelfAndOnlineExperiment(born_again_experiment.BornAgainExperiment):
    """Each job gives errors and multiply-accumulates of what would ship."""

    def fresh_network(self, number=0):
        keras.utils.set_random_seed(1000 * number + self.seed)
        return self.network()

    def fit(self, model, loss_weights=None):
        model.compile(self.optimizer(), CROSSENTROPY, loss_weights=loss_weights)
        model.fit(
            self.batches(0),
            epochs=self.settings["epochs"],
            steps_per_epoch=self.steps,
            shuffle=False,
            verbose=0,
        )
        return model

    def row(self, model):
        return {
            "error": self.error(model),
            "multiply_accumulates": multiply_accumulates(model),
        }

    # The jobs.

    def plain(self):
        """Two plain networks, the average of the first one's weights, and
        the ensemble of both: what comes without any distillation."""
        networks = [self.fresh_network(number) for number in (0, 1)]
        # It follows the student; with alpha=0 it teaches nothing.
        averaged = self.moving_average(networks[0], alpha=0.0)
        self.fit(networks[1])
        return {
            "plain": self.row(networks[0]),
            "plain, average of its weights": self.row(averaged.network),
            "plain, ensemble of 2": self.row(kd.Ensemble(networks)),
        }

    def moving_average(self, student, alpha):
        """Trains the student; -> its teacher."""
        teacher = kd.MovingAverageTeacher(
            student, momentum=self.settings["momentum"]
        )
        distiller = kd.Distiller(
            student=student,
            teacher=teacher,
            distillation_losses=kd.losses.SoftTargets(temperature=1.0),
            # Half of L_S + consistency * L_D, twice.
            distillation_loss_weights=2.0 * self.settings["consistency"],
            alpha=alpha,
        )
        self.fit(distiller, loss_weights=2.0 if alpha else None)
        return teacher

    def mean_teacher(self):
        student = self.fresh_network()
        teacher = self.moving_average(student, alpha=0.5)
        return {
            "moving average, student": self.row(student),
            "moving average, teacher": self.row(teacher.network),
        }

    def own_teacher(self):
        distiller = kd.BeYourOwnTeacher(
            student=self.fresh_network(), exits=STAGES[:-1]
        )
        self.fit(distiller)
        exits = distiller.deployable_exits(ensemble=True)
        return {
            f"BYOT, {name.replace('_', ' ')}": self.row(
                keras.Model(exits.input, exits.output[name])
            )
            for name in ("exit_1", "exit_2", "output", "ensemble")
        }

    def self_attention(self):
        half = self.steps * self.settings["epochs"] // 2
        student = self.fresh_network()
        distiller = kd.Distiller(
            student=student,
            distillation_losses=kd.losses.SelfAttention(
                student_layer_name=STAGES
            ),
            # From half of the training on, L_S + 0.1 * L_D, as in the paper.
            alpha=keras.optimizers.schedules.PiecewiseConstantDecay(
                [half], [0.0, 1 / 11]
            ),
        )
        self.fit(distiller)
        return {"SelfAttention": self.row(student)}

    def mutual(self):
        students = [self.fresh_network(number) for number in (0, 1)]
        cohort = kd.MutualDistiller(
            students={"first": students[0], "second": students[1]},
            # Half of L_S + L_D, twice.
            distillation_loss_weights=2.0,
        )
        self.fit(cohort, loss_weights=2.0)
        return {
            "DML, one of 2": self.row(students[0]),
            "DML, ensemble of 2": self.row(kd.Ensemble(students)),
        }

    def native_ensemble(self):
        distiller = kd.NativeEnsembleDistiller(
            student=self.fresh_network(), branch_from="stage2"
        )
        self.fit(distiller)
        return {
            "ONE, one branch": self.row(distiller.deployable_student()),
            "ONE, ensemble of 3": self.row(distiller.deployable_ensemble()),
        }


JOBS = {
    "plain": SelfAndOnlineExperiment.plain,
    "BYOT": SelfAndOnlineExperiment.own_teacher,
    "SelfAttention": SelfAndOnlineExperiment.self_attention,
    "moving average": SelfAndOnlineExperiment.mean_teacher,
    "DML": SelfAndOnlineExperiment.mutual,
    "ONE": SelfAndOnlineExperiment.native_ensemble,
}


# Workers.


@functools.lru_cache(maxsize=2)
def experiment_of(settings, seed):
    long_runs.one_thread()
    # It counts every new network's predict as a retracing of the last one's.
    tf.get_logger().setLevel("ERROR")
    return SelfAndOnlineExperiment(json.loads(settings), "fashion_mnist", seed)


def first_numbers(settings):
    experiment = experiment_of(json.dumps(settings), 0)
    return {
        "parameters": experiment.network().count_params(),
        "steps": experiment.steps,
    }


def work(job):
    key, name, seed, settings = job
    keras.backend.clear_session()
    experiment = experiment_of(json.dumps(settings), seed)
    start = time.time()
    rows = JOBS[name](experiment)
    assert all(np.isfinite(row["error"]) for row in rows.values()), rows
    return key, {"rows": rows, "seconds": time.time() - start}
