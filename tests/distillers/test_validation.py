"""Bad input: each mistake is a clear error before the first step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

layers = keras.layers
X, Y = data()


def make(losses=None, student=None, teacher="default", **kwargs):
    return kd.Distiller(
        student=student or convnet(),
        teacher=convnet(8) if teacher == "default" else teacher,
        distillation_losses=losses or kd.losses.SoftTargets(),
        **kwargs,
    )


def compiled(*args, loss="default", run_eagerly=False, **kwargs):
    distiller = make(*args, **kwargs)
    loss = crossentropy() if loss == "default" else loss
    distiller.compile("sgd", loss=loss, run_eagerly=run_eagerly)
    return distiller


def hint(teacher="act1", student="act1", **kwargs):
    return kd.losses.Hint(
        teacher_layer_name=teacher, student_layer_name=student, **kwargs
    )


def test_missing_teacher():
    distiller = compiled(teacher=None)
    with pytest.raises(ValueError, match="need a teacher.*set_teacher"):
        distiller.fit(X, Y, verbose=0)


def test_student_is_teacher():
    model = convnet()
    with pytest.raises(ValueError, match="same object.*clone_model"):
        make(student=model, teacher=model)


@pytest.mark.parametrize("wrong", ["a model", 3, convnet])
def test_not_a_model(wrong):
    with pytest.raises(TypeError, match="student must be a keras.Model"):
        make(student=wrong)
    with pytest.raises(TypeError, match="teacher must be a keras.Model"):
        make(teacher=wrong)


def test_unbuilt_teacher():
    with pytest.raises(ValueError, match="not built.*build"):
        make(teacher=Subclassed())


def test_class_counts_that_differ():
    with pytest.raises(ValueError, match="(?s)7.*4.*class_map"):
        make(teacher=convnet(8, classes=7))
    make(
        kd.losses.SoftTargets(class_map=[0, 2, 4, 6]),
        teacher=convnet(classes=7),
    )
    # Features of a teacher with other classes are no mistake.
    make(hint(), teacher=convnet(8, classes=7))


def test_softmax_heads():
    with pytest.raises(ValueError, match="teacher_probabilities=True"):
        make(teacher=convnet(head="softmax"))
    with pytest.raises(ValueError, match="(?s)student.*softmax.*activation"):
        make(student=convnet(head="softmax"))
    make(hint(), teacher=convnet(8, head="softmax"))


def test_softmax_head_that_only_the_values_show():
    class Softmaxed(Subclassed):
        def call(self, x, training=None):
            return keras.ops.softmax(super().call(x))

    teacher = Softmaxed()
    teacher(X)
    distiller = compiled(teacher=teacher)
    with pytest.raises(ValueError, match="teacher_probabilities=True"):
        distiller.fit(X, Y, verbose=0)


def test_unknown_layer_names():
    with pytest.raises(ValueError, match="teacher.*no layer 'acd1'.*'act1'"):
        make(hint(teacher="acd1"))
    with pytest.raises(ValueError, match="student.*no layer 'cov1'.*'conv1'"):
        make(hint(student="cov1"))


def test_layer_called_several_times():
    inputs = keras.Input((8, 8, 3))
    conv = layers.Conv2D(3, 3, padding="same", name="twice")
    outputs = layers.Dense(4)(layers.Flatten()(conv(conv(inputs))))
    teacher = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match="'twice#0', 'twice#1'"):
        make(hint(teacher="twice"), teacher=teacher)
    make(hint(teacher="twice#1"), teacher=teacher)


def test_maps_with_the_channels_first():
    inputs = keras.Input((2, 6, 6))
    conv = layers.Conv2D(4, 3, data_format="channels_first", name="act1")
    pool = layers.GlobalAveragePooling2D(data_format="channels_first")
    first = keras.Model(inputs, layers.Dense(4)(pool(conv(inputs))))
    make(student=first, teacher=keras.models.clone_model(first))
    with pytest.raises(ValueError, match=r"channels first \(act1"):
        make(hint(), student=first, teacher=keras.models.clone_model(first))


def test_shapes_that_no_connector_joins():
    with pytest.raises(ValueError, match=r"\(None, 8, 8, 8\).*\(None, 4\)"):
        make(hint(teacher="act1", student="head"))


@pytest.mark.parametrize(
    "alpha", [-0.1, 1.5, float("nan"), float("inf"), "0.5", None, True]
)
def test_alpha(alpha):
    with pytest.raises(ValueError, match="alpha.*Received"):
        make(alpha=alpha)


@pytest.mark.parametrize(
    "temperature", [0, -1.0, float("nan"), float("inf"), "4", None, True]
)
def test_temperature(temperature):
    with pytest.raises((TypeError, ValueError), match="temperature"):
        kd.losses.SoftTargets(temperature=temperature)


@pytest.mark.parametrize("losses", [[], {}, ()])
def test_no_losses(losses):
    with pytest.raises(ValueError, match="at least one distillation loss"):
        kd.Distiller(
            student=convnet(), teacher=convnet(), distillation_losses=losses
        )
    with pytest.raises(ValueError, match="at least one distillation loss"):
        kd.Distiller(
            student=convnet(), teacher=convnet(), distillation_losses=None
        )


@pytest.mark.parametrize(
    "wrong",
    ["kl", kd.losses.SoftTargets, keras.losses.KLDivergence(), abs],
    ids=["string", "class", "keras_loss", "function"],
)
def test_something_that_is_no_loss(wrong):
    with pytest.raises(TypeError, match="distillation_losses takes"):
        make(losses=[wrong])


def test_duplicate_and_reserved_names():
    same = [kd.losses.SoftTargets(name="a"), kd.losses.LogitsMSE(name="a")]
    with pytest.raises(ValueError, match="Two distillation losses.*'a'"):
        make(same)
    with pytest.raises(ValueError, match="'student' cannot be the name"):
        make({"student": kd.losses.SoftTargets()})
    loss = kd.losses.SoftTargets()
    with pytest.raises(ValueError, match="given twice"):
        make([loss, loss])


@pytest.mark.parametrize(
    "weights, message",
    [
        ({"soft_targets": 1.0, "sfot": 2.0}, "Unknown: \\['sfot'\\]"),
        ({}, "missing: \\['soft_targets'\\]"),
        ([1.0, 2.0], "one number per distillation loss"),
        ([-1.0], "at least 0"),
        ([float("nan")], "at least 0"),
        (["1"], "at least 0"),
    ],
)
def test_loss_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        make(distillation_loss_weights=weights)


def test_a_loss_without_a_mean():
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=None
    )
    with pytest.raises(ValueError, match="reduction=None.*each sample"):
        compiled(loss=loss)


@pytest.mark.parametrize("argument", ["y", "sample_weight"])
def test_a_list_in_the_place_of_an_array(argument):
    given = {"y": Y, "sample_weight": np.ones(len(Y))}
    given[argument] = given[argument].tolist()
    with pytest.raises(TypeError, match=f"`{argument}` must be an array"):
        compiled().fit(X, verbose=0, **given)


def test_an_axis_of_one_that_keras_adds_by_itself():
    inputs = keras.Input((6, 6, 1))
    x = layers.Flatten()(inputs)
    student, teacher = (
        keras.Model(inputs, layers.Dense(4)(x)) for _ in range(2)
    )
    distiller = compiled(student=student, teacher=teacher)
    images = np.ones((8, 6, 6), "float32")
    history = distiller.fit(images, Y[:8], verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_compile_without_loss_while_alpha_below_one():
    with pytest.raises(ValueError, match="needs loss=.*alpha=1"):
        compiled(loss=None, alpha=0.5)
    schedule = keras.optimizers.schedules.CosineDecay(1.0, 10)
    with pytest.raises(ValueError, match="needs loss="):
        compiled(loss=None, alpha=schedule)
    compiled(loss=None, alpha=1.0)


@pytest.mark.parametrize("kind", ["array", "dataset", "generator"])
def test_labels_missing_while_alpha_below_one(kind):
    distiller = compiled(alpha=0.5)
    given = {
        "array": X,
        "dataset": tf.data.Dataset.from_tensor_slices(X).batch(8),
        "generator": (X[:4] for _ in range(2)),
    }[kind]
    with pytest.raises(ValueError, match="no labels.*alpha=1"):
        distiller.fit(given, verbose=0)


class Needy(kd.losses.DistillationLoss):
    needs_labels = True

    def compute_loss(self, teacher, student, y=None, **kwargs):
        return keras.ops.mean(student)


def test_labels_missing_for_a_loss_that_needs_them():
    distiller = compiled(losses=Needy(), alpha=1, loss=None)
    with pytest.raises(ValueError, match="'needy' needs labels"):
        distiller.fit(X, verbose=0)


def test_a_loss_that_needs_the_sample_index():
    loss = Needy()
    loss.needs_labels, loss.needs_sample_index = False, True
    with pytest.raises(ValueError, match="'needy' needs the index"):
        compiled(losses=loss).fit(X, Y, verbose=0)


def test_sparse_labels_out_of_range():
    distiller = compiled()
    for wrong in (np.full(len(X), 4), np.full((len(X), 1), -1)):
        with pytest.raises(ValueError, match=r"\[0, 3\].*4 classes"):
            distiller.fit(X, wrong, verbose=0)
    ignoring = compiled(
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=-1
        ),
        run_eagerly=True,
    )
    ignoring.fit(X, np.where(Y == 0, -1, Y), verbose=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_teacher_that_gives_no_numbers(value):
    teacher = convnet(8)
    weights = teacher.get_weights()
    weights[-1][0] = value
    teacher.set_weights(weights)
    distiller = compiled(teacher=teacher)
    with pytest.raises(ValueError, match="(?i)nan|infinite"):
        distiller.fit(X, Y, verbose=0)


def test_data_that_yields_nothing():
    distiller = compiled()
    empty = tf.data.Dataset.from_tensor_slices((X, Y)).batch(64, True)
    for nothing in ((X[:0], Y[:0]), (empty, None), ((_ for _ in ()), None)):
        with pytest.raises(ValueError, match="yields nothing"):
            distiller.fit(*nothing, verbose=0)


def test_data_that_never_ends():
    distiller = compiled(run_eagerly=True)
    endless = kd.datasets.batches(X, Y, batch_size=8, seed=0)
    with pytest.raises(ValueError, match="steps_per_epoch"):
        distiller.fit(endless, verbose=0)
    distiller.fit(endless, steps_per_epoch=2, verbose=0)


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        keras.losses.SparseCategoricalCrossentropy(),
    ],
    ids=["string", "object"],
)
def test_crossentropy_of_probabilities_on_logits(loss):
    with pytest.warns(UserWarning, match="from_logits=True"):
        compiled(loss=loss)


def test_other_backend(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="tensorflow backend.*'jax'"):
        make()


def test_views_and_metrics():
    with pytest.raises(TypeError, match="views must be"):
        make(views=lambda x: x)
    with pytest.raises(TypeError, match="student must be a Keras layer"):
        kd.views.Preprocessing(student=lambda x: x)
    distiller = make(teacher=None)
    distiller.compile("sgd", crossentropy(), metrics=[kd.metrics.Agreement()])
    with pytest.raises(
        ValueError, match="'agreement' compares with the teacher"
    ):
        distiller.evaluate(X, Y, verbose=0)


def test_models_in_an_ensemble():
    with pytest.raises(ValueError, match="at least one"):
        kd.Ensemble([])
    with pytest.raises(ValueError, match="same classes"):
        kd.Ensemble([convnet(classes=3), convnet(classes=4)])
    with pytest.raises(ValueError, match="weights needs 2"):
        kd.Ensemble([convnet(), convnet()], weights=[1.0])


def test_positional_arguments_are_refused():
    # keras.distillation has (teacher, student): swapping them must not pass.
    with pytest.raises(TypeError):
        kd.Distiller(convnet(), convnet(8), kd.losses.SoftTargets())


def test_an_evaluation_without_labels_knows_nothing_of_one_with_labels():
    for metrics in (["accuracy"], ["accuracy", kd.metrics.Agreement()]):
        distiller = make()
        distiller.compile("sgd", crossentropy(), metrics=metrics)
        distiller.evaluate(X, Y, verbose=0)
        if len(metrics) == 1:
            with pytest.raises(ValueError, match="Nothing can be measured"):
                distiller.evaluate(X, verbose=0)
        else:
            results = distiller.evaluate(X, verbose=0, return_dict=True)
            assert set(results) == {"agreement"}
