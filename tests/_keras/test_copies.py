"""Copies have the configuration of what was given, or there are none."""

import keras
import pytest
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd
from keras_distill._keras.cloning import clone_from_config

X, Y = data(16)


class Focal(keras.losses.Loss):
    """Has no get_config of its own."""

    def __init__(self, gamma=2.0, name="focal"):
        super().__init__(name=name)
        self.gamma = gamma

    def call(self, y_true, y_pred):
        loss = keras.losses.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=True
        )
        return self.gamma * loss


class Top(keras.metrics.Mean):
    """Has no get_config of its own either."""

    def __init__(self, k, name="top", **kwargs):
        super().__init__(name=name, **kwargs)
        self.k = k


def cohort(**settings):
    made = kd.MutualDistiller(students=[convnet(2), convnet(3)])
    made.compile(**{"loss": crossentropy(), **settings})
    return made


def test_the_task_loss_of_a_cohort_is_the_given_one():
    loss = Focal(gamma=5.0)
    for member in cohort(loss=loss)._members.values():
        assert member.loss is loss


def test_what_would_lose_its_arguments_is_not_copied():
    message = r"Top must be copied, .* leaves out \['k'\]"
    with pytest.raises(ValueError, match=message):
        cohort(metrics=[Top(3)])
    with pytest.raises(ValueError, match=message):
        kd.born_again(
            convnet,
            kd.datasets.batches(X, Y),
            generations=1,
            compile_options={"loss": crossentropy(), "metrics": [Top(3)]},
            verbose=0,
        )
    # Keras's own, whose configuration is not complete.
    with pytest.raises(ValueError, match=r"Huber.*'delta'"):
        clone_from_config(keras.losses.Huber(delta=3.0))
    with pytest.raises(ValueError, match=r"CosineSimilarity.*'axis'"):
        clone_from_config(keras.metrics.CosineSimilarity(axis=1))


def test_whatever_else_is_copied():
    for thing in (
        keras.losses.Huber(),
        keras.metrics.CosineSimilarity(),
        keras.metrics.SparseCategoricalAccuracy(),
        keras.metrics.SparseTopKCategoricalAccuracy(3),
        keras.metrics.AUC(num_thresholds=7),
        keras.metrics.F1Score(average=None),
        keras.metrics.MeanMetricWrapper(keras.losses.poisson),
        keras.optimizers.Adam(0.5),
        kd.losses.SoftTargets(temperature=3.0),
        kd.metrics.Agreement(),
    ):
        copy = clone_from_config(thing)
        assert copy is not thing and type(copy) is type(thing)
        assert copy.get_config() == thing.get_config()
    assert clone_from_config("accuracy") == "accuracy"
    assert clone_from_config(None) is None


@pytest.mark.parametrize("scaled", [False, True])
def test_what_decays_in_a_copy_of_an_optimizer(scaled):
    optimizer = keras.optimizers.AdamW(0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    made = cohort(optimizer=optimizer)
    training = [m.optimizer for m in made._members.values()]
    assert training[0] is not training[1]
    for optimizer, member in zip(training, made._members.values()):
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        for variable in member.student.trainable_variables:
            decays = optimizer._use_weight_decay(variable)
            assert decays == (variable.name != "bias")
