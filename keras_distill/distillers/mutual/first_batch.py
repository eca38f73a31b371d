"""The first batch, looked at before the first step."""

import keras

from keras_distill._data.batch_fields import unpacked
from keras_distill._training.first_batch import FirstBatch
from keras_distill._training.outputs import ForwardOutputs
from keras_distill.views import for_network


class BranchesBatch(FirstBatch):
    """Checks the data of a `NativeEnsembleDistiller`."""

    def _check_labels_are_there(self, y):
        if y is None:
            raise ValueError(
                "The data has no labels, from which branches and gate learn. "
                "Give `y`, or a dataset of (x, y)."
            )


class CohortBatch(FirstBatch):
    """Checks the data of a `MutualDistiller`, for each of its students."""

    def check(self, x, y=None):
        cohort = self.distiller
        sample = unpacked(x)
        self._check_labels_are_there(y)
        self._check_sample_index(sample)
        if sample.teacher_outputs is not None:
            raise ValueError(
                "The data carries a teacher's outputs, and the students of a "
                "MutualDistiller have no teacher but each other. Give the "
                "data itself; for a cached teacher see kd.Distiller."
            )
        for member in cohort.members.values():
            member._view_schedule().check(sample)
        cohort._view_schedule().check_index(sample)  # it is told the steps
        self._build_students(sample)
        if y is not None:
            first = next(iter(cohort.members.values()))
            FirstBatch(first)._check_sparse_labels(y)
            first._view_schedule().check_labels(y)

    def _networks(self):
        members = self.distiller.members.values()
        return [(member.student, "student") for member in members]

    def _build_students(self, sample):
        """Builds the students, and the losses where shapes were not known."""
        cohort = self.distiller
        inputs = keras.tree.map_structure(
            keras.ops.convert_to_tensor, sample.inputs
        )
        free = lambda a: (None, *a.shape[1:])  # noqa: E731
        with cohort.distribute_strategy.scope():
            inputs = cohort.views.evaluation(inputs)
            shapes = {}
            for name, member in cohort.members.items():
                student = member.student
                x = for_network(student, inputs, "student")
                if not student.built:
                    student(keras.tree.map_structure(lambda a: a[:1], x))
                member.built = True
                specs = keras.tree.map_structure(
                    lambda a: keras.KerasTensor(free(a), a.dtype.name), x
                )
                if not cohort._networks().bound:
                    taps = member._networks().student_taps
                    shapes[name] = ForwardOutputs(*taps.shapes_on(specs))
            cohort.built = True
            if shapes:
                cohort.bind(shapes)
