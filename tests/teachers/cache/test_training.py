"""A Distiller that trains from a cache, against the same with its teacher."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import CLASSES
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

stored = kd.teachers.StoredOutputs

SAMPLES, BATCH, GROUP = 60, 20, 10


def make(builder, seed, **kwargs):
    keras.utils.set_random_seed(seed)
    return builder(**kwargs)


def teacher(seed=1, **kwargs):
    model = make(convnet, seed, width=8, name="teacher", **kwargs)
    # Sure of itself, as a trained one is.
    model.layers[-1].kernel.assign(20.0 * model.layers[-1].kernel)
    return model


def samples():
    return tf.data.Dataset.from_tensor_slices(data(SAMPLES))


def pipeline(group=GROUP):
    return kd.views.grouped_batches(
        samples(), BATCH, group_size=group, shuffle_buffer_size=SAMPLES, seed=5
    )


def views(**kwargs):
    return kd.views.FunctionMatching(
        8, mixup=kd.views.Mixup(group_size=GROUP), **kwargs
    )


def losses():
    taps = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
    return {
        "soft": kd.losses.SoftTargets(),
        "attention": kd.losses.AttentionTransfer(**taps),
        "hint": kd.losses.Hint(**taps),
    }


def distiller(teacher=None, given=None, **kwargs):
    keras.utils.set_random_seed(2)
    blended = isinstance(kwargs.get("views"), kd.views.FunctionMatching)
    distiller = kd.Distiller(
        student=make(convnet, 3, name="student"),
        teacher=teacher,
        distillation_losses=given or losses(),
        **kwargs,
    )
    distiller.compile(
        keras.optimizers.SGD(0.05),
        keras.losses.CategoricalCrossentropy(from_logits=True)
        if blended
        else crossentropy(),
        metrics=["accuracy"],
    )
    return distiller


def build(path, layer_names=("act1",), dtype="float16", **kwargs):
    return kd.TeacherCache.build(
        teacher(),
        samples(),
        path,
        run=kd.teachers.TeacherRun(
            batch_size=GROUP, samples_per_shard=2 * GROUP
        ),
        outputs=stored(layer_names=layer_names, dtype=dtype),
        verbose=False,
        **kwargs,
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return build(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """Two epochs under function matching."""
    path = tmp_path_factory.mktemp("varied")
    return build(path, views=views(), epochs=2, dtype="float32")


def histories(live, cached, tolerance):
    assert live.keys() == cached.keys()
    assert "agreement" in live and "hint_loss" in live
    for name in live:
        np.testing.assert_allclose(
            cached[name], live[name], rtol=tolerance, err_msg=name
        )


@pytest.mark.slow
def test_equals_the_live_teacher(plain):
    """To the rounding of float16; the pipeline is shuffled anew each epoch."""
    options = {"epochs": 3, "verbose": 0}
    # Both pipelines begin their third pass: joined and checked data were
    # started, to look at the first batch.
    live = distiller(teacher()).fit(pipeline(), **options).history
    cached = distiller().fit(
        plain.join(pipeline(), check_inputs=False), **options
    )
    histories(live, cached.history, 2e-3)


@pytest.mark.slow
def test_equals_the_live_teacher_under_function_matching(varied):
    """Three epochs: the third sees the views of the first."""
    live = distiller(teacher(), views=views())
    stream = kd.datasets.batches(
        *data(SAMPLES), BATCH, seed=1, indexed=True, group_size=GROUP
    )
    steps = {"steps_per_epoch": SAMPLES // BATCH, "epochs": 2, "verbose": 0}
    live = live.fit(stream, **steps).history
    student = distiller(views=views())
    histories(live, student.fit(varied.join(stream), **steps).history, 1e-4)


@pytest.mark.slow
def test_other_pipelines_under_function_matching(varied):
    """A finite, reshuffled one sees the views of the cached epochs too: a
    student that has the teacher's weights has nothing to learn."""
    same = kd.Distiller(
        student=teacher(),
        distillation_losses=kd.losses.SoftTargets(),
        views=views(),
        alpha=1.0,
    )
    same.compile(keras.optimizers.SGD(0.0))
    steps = {"steps_per_epoch": SAMPLES // BATCH, "epochs": 3, "verbose": 0}
    history = same.fit(varied.join(pipeline()), **steps).history
    assert max(history["loss"]) < 1e-6
    assert min(history["agreement"]) == 1.0
    with pytest.raises(ValueError, match="pass steps_per_epoch="):
        same.fit(varied.join(pipeline()), verbose=0)


@pytest.mark.slow
def test_without_labels(plain):
    unlabelled = kd.views.indexed(samples().map(lambda x, y: x)).batch(BATCH)
    student = distiller(alpha=1.0)
    history = student.fit(plain.join(unlabelled), verbose=0).history
    assert history["loss"][0] > 0


@pytest.mark.slow
def test_the_teacher_does_not_run_if_there_is_one(plain):
    model = teacher()
    student = distiller(model)
    joined = plain.join(pipeline())
    calls = []
    student._networks().run_teacher.taps = lambda *a, **k: calls.append(a)
    student.fit(joined, verbose=0)
    assert not calls


@pytest.mark.slow
def test_evaluation_is_of_the_student(plain):
    student = distiller()
    student.fit(
        plain.join(pipeline()), validation_data=samples().batch(8), verbose=0
    )
    x, y = data(SAMPLES)
    found = student.evaluate(
        plain.join(pipeline()), return_dict=True, verbose=0
    )
    expected = student.evaluate(x, y, return_dict=True, verbose=0)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


@pytest.mark.nightly
def test_losses_with_a_stage_before_training(plain):
    paraphrased = kd.losses.FactorTransfer(
        teacher_layer_name="act1",
        student_layer_name="act1",
        paraphraser_epochs=1,
    )
    student = distiller(given=paraphrased)
    history = student.fit(plain.join(pipeline()), verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.slow
def test_a_student_that_shows_its_shapes_on_data(plain):
    from networks import Subclassed

    student = kd.Distiller(
        student=Subclassed(), distillation_losses=losses(), alpha=1.0
    )
    student.compile("sgd")
    assert student.fit(plain.join(pipeline()), verbose=0).history["loss"][0] > 0


@pytest.mark.slow
def test_binary_head_that_gives_probabilities(tmp_path):
    """Agreement knows where the cached teacher says yes."""
    x, _ = data(SAMPLES)
    y = np.zeros((SAMPLES, 1), "float32")
    model = make(convnet, 1, classes=1, head="sigmoid")
    # Not float16: some probabilities are very near 0.5.
    cache = kd.TeacherCache.build(
        model, x, tmp_path, outputs=stored(dtype="float32"), verbose=False
    )
    found = []
    for given in (model, None):
        student = kd.Distiller(
            student=make(convnet, 3, classes=1),
            teacher=given,
            distillation_losses=kd.losses.SoftTargets(
                activation="sigmoid", teacher_probabilities=True
            ),
        )
        student.compile(
            keras.optimizers.SGD(0.0),
            keras.losses.BinaryCrossentropy(from_logits=True),
        )
        batches = kd.datasets.batches(x, y, BATCH, indexed=True)
        batches = batches if given else cache.join(batches)
        found.append(student.fit(batches, verbose=0).history["agreement"])
    assert found[0] == found[1]


# A peaked teacher of 100 classes.


@pytest.fixture(scope="module")
def peaked():
    """Logits as of a trained network: one class far above an uneven rest."""
    keras.utils.set_random_seed(0)
    x = np.random.normal(size=(512, 16)).astype("float32")
    x[:, 0] = 12.0
    x[:, 1] = np.arange(512) % 100
    inputs = keras.Input((16,))
    rest = keras.layers.Dense(100, kernel_initializer="zeros")
    logits = rest(inputs[:, 2:]) + 12.0 * keras.ops.one_hot(
        keras.ops.cast(inputs[:, 1], "int32"), 100
    )
    model = keras.Model(inputs, logits)
    rest.kernel.assign(0.4 * np.random.normal(size=(14, 100)))
    probability = keras.ops.softmax(model(x)).numpy()
    assert 0.98 < probability.max(-1).mean() < 0.999
    assert 1.3 < np.median(np.std(model(x), axis=-1)) < 2.2
    return x, model


@pytest.mark.slow
@pytest.mark.parametrize("temperature,within", [(1.0, 0.01), (2.0, 0.015)])
def test_ten_of_a_hundred_logits(peaked, tmp_path, temperature, within):
    x, model = peaked
    cache = kd.TeacherCache.build(
        model,
        x,
        tmp_path,
        outputs=stored(top_k=10, temperature=temperature),
        verbose=False,
    )
    assert cache.bytes_per_view == 10 * 4 + 2
    batches = kd.datasets.batches(x, None, 64, seed=0, indexed=True)
    found = []
    for given, stream in ((model, batches), (None, cache.join(batches))):
        keras.utils.set_random_seed(1)
        student = kd.Distiller(
            student=keras.Sequential(
                [
                    keras.Input((16,)),
                    keras.layers.Rescaling([0.1, 0.1, *[1.0] * 14]),
                    keras.layers.Dense(32, activation="relu"),
                    keras.layers.Dense(100),
                ]
            ),
            teacher=given,
            distillation_losses=kd.losses.SoftTargets(temperature=temperature),
            alpha=1.0,
        )
        student.compile(keras.optimizers.Adam(0.01))
        history = student.fit(stream, steps_per_epoch=8, epochs=6, verbose=0)
        found.append(history.history["loss"])
    assert found[0][-1] < 0.8 * found[0][0]
    np.testing.assert_allclose(found[1], found[0], rtol=within)


# What does not fit.


def test_another_teacher(plain):
    joined = plain.join(pipeline())
    with pytest.raises(ValueError, match="outputs of another teacher"):
        distiller(teacher(seed=8)).fit(joined, verbose=0)


def test_another_teacher_of_the_same_weights(plain):
    joined = plain.join(pipeline())
    inputs = keras.Input((8, 8, 3))
    rescaled = keras.Model(
        inputs, teacher()(keras.layers.Rescaling(2.0)(inputs))
    )
    for other in (rescaled, teacher(head="softmax")):
        student = distiller(other, given=kd.losses.HardLabels())
        with pytest.raises(ValueError, match="weights are the same, but"):
            student.fit(joined, verbose=0)


@pytest.mark.slow
def test_other_views_and_another_seed(plain, varied):
    steps = {"steps_per_epoch": 3, "verbose": 0}
    joined = varied.join(pipeline())
    with pytest.raises(ValueError, match="of seed 0, but .* has seed 4"):
        distiller(views=views(seed=4)).fit(joined, **steps)
    for other in (views(flip=False), kd.views.Consistent(8), None):
        with pytest.raises(ValueError, match="under other views"):
            distiller(views=other).fit(joined, **steps)
    with pytest.raises(ValueError, match="under other views"):
        distiller(views=views()).fit(plain.join(pipeline()), verbose=0)


@pytest.mark.slow
def test_every_cache_is_checked(plain, tmp_path):
    """Also one that gives data of the same kind as the one before."""
    student = distiller()
    student.fit(plain.join(pipeline()), verbose=0)
    views = kd.views.Preprocessing(teacher=keras.layers.Rescaling(2.0))
    other = build(tmp_path, views=views)
    with pytest.raises(ValueError, match="under other views"):
        student.fit(other.join(pipeline()), verbose=0)


@pytest.mark.slow
def test_train_on_batch_checks_a_cache_once(plain, tmp_path, monkeypatch):
    student = distiller()
    first_batch, checked = student._first_batch.value, []
    check = first_batch.check
    monkeypatch.setattr(
        first_batch, "check", lambda *a: (checked.append(1), check(*a))
    )
    joined = plain.join(pipeline())
    for x, y in joined.take(3):
        student.train_on_batch(x, y)
    assert len(checked) == 1
    # Another cache of the same kind of data is looked at.
    views = kd.views.Preprocessing(teacher=keras.layers.Rescaling(2.0))
    other = build(tmp_path, views=views)
    x, y = next(iter(other.join(pipeline())))
    with pytest.raises(ValueError, match="under other views"):
        student.train_on_batch(x, y)


@pytest.mark.slow
def test_views_that_differ_for_the_student_only(varied):
    student = convnet(size=6)
    smaller = kd.views.FunctionMatching(
        6,
        teacher_image_size=8,
        mixup=kd.views.Mixup(group_size=GROUP, num_classes=CLASSES),
    )
    student = kd.Distiller(
        student=student,
        distillation_losses=kd.losses.SoftTargets(),
        views=smaller,
        alpha=1.0,
    )
    student.compile("sgd")
    student.fit(varied.join(pipeline()), steps_per_epoch=3, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "index",
    [
        np.r_[0:20, 40:52],
        np.r_[0:20, 20:25],
        np.r_[0:20, 25:30],
        np.r_[0:10, 0:10],
    ],
    ids=str,
)
def test_batches_with_parts_of_groups(varied, index):
    """Of every batch, whatever its size and place."""
    x, y = data(SAMPLES)
    whole = np.r_[10:20, 50:60]
    order = np.concatenate([whole, index])
    x = {"keras_distill/inputs": x[order], "keras_distill/sample_index": order}
    x["keras_distill/sample_index"] = order.astype("int32")
    rows = tf.data.Dataset.from_tensor_slices((x, y[order]))
    batches = rows.take(20).batch(20).concatenate(rows.skip(20).batch(50))
    joined = iter(varied.join(batches))
    next(joined)
    with pytest.raises(tf.errors.InvalidArgumentError, match="part of a group"):
        next(joined)


@pytest.mark.slow
def test_the_last_group_of_a_cache_may_be_partial(tmp_path):
    cache = kd.TeacherCache.build(
        teacher(),
        data(25)[0],
        tmp_path,
        views=views(),
        epochs=2,
        verbose=False,
    )
    rows = tf.data.Dataset.from_tensor_slices(data(25))
    grouped = kd.views.grouped_batches(
        rows, 20, group_size=GROUP, shuffle_buffer_size=25, seed=0
    )
    sizes = [len(y) for _, y in cache.join(grouped).take(4)]
    assert sizes == [20, 5, 20, 5]


@pytest.mark.slow
def test_a_layer_that_is_not_in_the_cache(plain, tmp_path):
    hint = kd.losses.Hint(
        teacher_layer_name="conv2", student_layer_name="conv2"
    )
    message = (
        r"'hint' reads \['conv2'\] .* carries \['the output', 'act1'\] only.*"
        r"layer_names=\['conv2'\]"
    )
    with pytest.raises(ValueError, match=message):
        distiller(given=hint).fit(plain.join(pipeline()), verbose=0)


@pytest.mark.slow
def test_losses_that_read_the_teachers_weights(plain, tmp_path):
    taps = {"teacher_layer_name": "conv2", "student_layer_name": "conv2"}
    cache = build(tmp_path, layer_names="conv2")
    for loss in (
        kd.losses.SoftmaxRegression(**taps),
        kd.losses.ReusedClassifier(**taps),
        kd.losses.IdealJointClassifier(**taps),
    ):
        with pytest.raises(
            ValueError, match="reads the weights of the teacher"
        ):
            distiller(given=loss).fit(cache.join(pipeline()), verbose=0)
    student = distiller(teacher(), given=loss)
    history = student.fit(cache.join(pipeline()), verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.slow
def test_a_margin_that_comes_from_the_teacher(tmp_path):
    taps = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
    joined = build(tmp_path).join(pipeline())
    with pytest.raises(ValueError, match="reads the weights of the teacher"):
        distiller(given=kd.losses.OverhauledFeature(**taps)).fit(
            joined, verbose=0
        )
    given = kd.losses.OverhauledFeature(**taps, margin=-0.5)
    distiller(given=given).fit(joined, verbose=0)


def test_neither_teacher_nor_cache():
    with pytest.raises(ValueError, match=r"kd.TeacherCache\(path\).join"):
        distiller().fit(pipeline(), verbose=0)


@pytest.mark.slow
def test_two_caches_in_one_pipeline(plain, varied):
    streams = [c.join(pipeline()).take(2) for c in (plain, plain)]
    both = streams[0].concatenate(streams[1])
    distiller().fit(both, verbose=0)  # The same cache twice is the same.
    rows = [next(iter(c.join(pipeline())))[0] for c in (plain, varied)]
    from keras_distill._data.batch_fields import unpacked
    from keras_distill.teachers.cache.origin import check_origin

    origins = [unpacked(x).teacher_outputs["origin"] for x in rows]
    with pytest.raises(ValueError, match="mixes outputs of several"):
        check_origin(np.concatenate(origins), distiller())
