"""Sparse inputs train as dense ones."""

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from networks import crossentropy

import keras_distill as kd

layers = keras.layers
X = (np.random.default_rng(0).random((24, 30)) < 0.2).astype("float32")
Y = np.arange(24) % 2
BATCHES = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
SPARSE = BATCHES.map(lambda x, y: (tf.sparse.from_dense(x), y))

DATA = {
    "dataset": (SPARSE,),
    "csr_matrix": (scipy.sparse.csr_matrix(X), Y),
    "coo_array": (scipy.sparse.coo_array(X.astype("float64")), Y),
}


def network(width, sparse=True):
    return keras.Sequential(
        [
            keras.Input((30,), sparse=sparse),
            layers.Dense(width),
            layers.Dense(2),
        ]
    )


class Subclassed(keras.Model):
    def __init__(self, width):
        super().__init__()
        self.hidden, self.head = layers.Dense(width), layers.Dense(2)

    def call(self, x):
        return self.head(self.hidden(x))


def trained(data, make=network):
    keras.utils.set_random_seed(0)
    distiller = kd.Distiller(
        student=make(4),
        teacher=network(8),
        distillation_losses=kd.losses.SoftTargets(),
    )
    distiller.compile("sgd", crossentropy())
    options = {"verbose": 0}
    if len(data) == 2:
        options.update(batch_size=8)
    logs = distiller.fit(*data, shuffle=False, **options).history
    logs["val_loss"] = distiller.evaluate(*data, **options)
    logs["predicted"] = distiller.predict(data[0], verbose=0)
    return logs


@pytest.mark.parametrize(
    "make", [network, pytest.param(Subclassed, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", DATA)
def test_sparse_inputs_train_as_dense_ones(kind, make):
    sparse, dense = trained(DATA[kind], make), trained((BATCHES,), make)
    assert sparse.keys() == dense.keys()
    for name, value in dense.items():
        np.testing.assert_allclose(sparse[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_cohort_takes_them():
    cohort = kd.MutualDistiller(students={"a": network(3), "b": network(4)})
    cohort.compile("sgd", crossentropy())
    logs = cohort.fit(
        *DATA["csr_matrix"], validation_data=SPARSE, verbose=0
    ).history
    assert np.isfinite(logs["val_loss"]).all()


def test_where_they_are_refused(tmp_path):
    distiller = kd.Distiller(
        student=network(4),
        teacher=network(8),
        distillation_losses=kd.losses.SoftTargets(),
        teacher_batch_size=4,
    )
    distiller.compile("sgd", crossentropy())
    with pytest.raises(ValueError, match="teacher_batch_size.*sparse"):
        distiller.fit(SPARSE, verbose=0)
    for dataset in (DATA["csr_matrix"][0], SPARSE.unbatch()):
        with pytest.raises(TypeError, match="dense samples.*to_dense"):
            kd.TeacherCache.build(
                network(8), dataset, tmp_path / "cache", verbose=False
            )
    assert not list(tmp_path.iterdir())
