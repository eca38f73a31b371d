"""Views inside a Distiller."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd

CLASSES = 5


def network(size=8, name=None):
    return keras.Sequential(
        [
            keras.Input((size, size, 1), name="image"),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ],
        name=name,
    )


@pytest.fixture
def x():
    return np.random.uniform(size=(64, 10, 10, 1)).astype("float32")


@pytest.fixture
def y():
    return np.random.randint(0, CLASSES, 64).astype("int32")


def distill(views, alpha=0.5, student=None, compile=True, **kwargs):
    distiller = kd.Distiller(
        student=student or network(name="student"),
        teacher=network(name="teacher"),
        distillation_losses=kd.losses.SoftTargets(),
        views=views,
        alpha=alpha,
    )
    if compile:
        kwargs.setdefault(
            "loss",
            keras.losses.CategoricalCrossentropy(from_logits=True)
            if alpha < 1
            else None,
        )
        distiller.compile(keras.optimizers.SGD(0.05), **kwargs)
    return distiller


class Seen(kd.views.FunctionMatching):
    """Remembers by which numbers it drew."""

    def training(self, x, y=None, w=None, epoch=None, sample_index=None):
        given = -1 if sample_index is None else sample_index
        tf.py_function(self._note, [epoch, given], [])
        return super().training(x, y, w, epoch, sample_index)

    def _note(self, epoch, sample_index):
        self.seen = [*getattr(self, "seen", []), (epoch, sample_index)]


def batches(x, y, **kwargs):
    return kd.datasets.batches(x, y, 32, indexed=True, group_size=16, **kwargs)


@pytest.mark.slow
def test_the_epoch_is_that_of_fit(x, y):
    views = Seen(8)
    distiller = distill(views)
    distiller.fit(batches(x, y), epochs=4, initial_epoch=2, verbose=0)
    epochs = [int(epoch) for epoch, _ in views.seen]
    assert epochs == [2, 2, 3, 3]
    np.testing.assert_array_equal(views.seen[1][1], np.arange(32, 64))


@pytest.mark.slow
def test_a_second_fit_replays_the_first_unless_told_where_to_go_on(x, y):
    views = Seen(8)
    distiller = distill(views)
    distiller.fit(batches(x, y), verbose=0)
    distiller.fit(batches(x, y), verbose=0)
    distiller.fit(batches(x, y), initial_epoch=1, epochs=2, verbose=0)
    (batch, labels) = next(iter(batches(x, y)))
    distiller.train_on_batch(batch, labels)
    assert [int(epoch) for epoch, _ in views.seen] == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.slow
def test_the_epoch_is_that_of_the_data_where_it_knows(x, y):
    views = Seen(8)
    data = batches(x, y, seed=0, first_epoch=7)
    distill(views).fit(data, steps_per_epoch=2, epochs=2, verbose=0)
    assert [int(e[0]) for e, _ in views.seen] == [7, 7, 8, 8]
    assert set(np.concatenate([i for _, i in views.seen[:2]])) == set(range(64))


@pytest.mark.slow
def test_callbacks_of_the_user_are_called_too(x):
    for wrap in (lambda c: c, lambda c: [c]):
        views, calls = Seen(8), []
        theirs = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: calls.append(epoch)
        )
        distill(views, alpha=1.0).fit(
            batches(x, None), epochs=2, verbose=0, callbacks=wrap(theirs)
        )
        assert calls == [0, 1]
        assert [int(e) for e, _ in views.seen] == [0, 0, 1, 1]


@pytest.mark.slow
def test_without_an_index_every_step_draws_anew(x, y):
    views = Seen(8)
    distill(views).fit(x, y, batch_size=32, epochs=2, verbose=0)
    assert [int(e) for e, _ in views.seen] == [0, 1, 2, 3]
    assert int(views.seen[0][1]) == -1


@pytest.mark.slow
def test_teacher_and_student_agree_on_what_they_see(x):
    """A student with the teacher's weights has nothing to learn."""
    teacher, student = network(), network()
    student.set_weights(teacher.get_weights())
    for views, same in (
        (kd.views.FunctionMatching(8), True),
        (kd.views.IndependentNoise(8), False),
    ):
        distiller = kd.Distiller(
            student=student,
            teacher=teacher,
            distillation_losses=kd.losses.SoftTargets(),
            views=views,
            alpha=1.0,
        )
        distiller.compile(keras.optimizers.SGD(0.0))
        loss = distiller.fit(x, verbose=0).history["loss"][0]
        assert (loss < 1e-6) == same


@pytest.mark.slow
def test_training_is_replayed_from_its_seeds(x, y):
    def train():
        keras.utils.set_random_seed(0)
        distiller = distill(kd.views.FunctionMatching(8))
        distiller.fit(batches(x, y, seed=3), steps_per_epoch=2, verbose=0)
        return distiller.student.get_weights()

    for one, other in zip(train(), train()):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_evaluation_sees_whole_images(x, y):
    views = kd.views.FunctionMatching(8)
    distiller = distill(views, metrics=["accuracy"])
    data = batches(x, y)
    distiller.fit(data, validation_data=(x, y), verbose=0)
    logits = distiller.predict(x, verbose=0)
    expected = distiller.student(keras.ops.image.resize(x, (8, 8)))
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    results = distiller.evaluate(data, verbose=0, return_dict=True)
    accuracy = np.mean(np.argmax(logits, -1) == y)
    np.testing.assert_allclose(results["accuracy"], accuracy, atol=1e-6)
    cross_entropy = keras.losses.sparse_categorical_crossentropy(
        y, logits, from_logits=True
    )
    np.testing.assert_allclose(
        results["loss"], np.mean(cross_entropy), rtol=1e-5
    )


@pytest.mark.slow
def test_pure_function_matching_needs_no_labels(x):
    distiller = distill(kd.views.FunctionMatching(8), alpha=1.0)
    history = distiller.fit(batches(x, None), epochs=2, verbose=0).history
    assert np.isfinite(history["soft_targets_loss"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_training_sees_the_same(x, y, jit_compile):
    keras.utils.set_random_seed(1)
    distiller = distill(
        kd.views.FunctionMatching(8, teacher_image_size=8),
        jit_compile=jit_compile,
    )
    history = distiller.fit(batches(x, y), verbose=0).history
    assert distiller._compiles_networks == jit_compile
    test_compiled_training_sees_the_same.losses[jit_compile] = history["loss"]
    losses = test_compiled_training_sees_the_same.losses
    if len(losses) == 2:
        np.testing.assert_allclose(losses[True], losses[False], rtol=1e-4)


test_compiled_training_sees_the_same.losses = {}


@pytest.mark.slow
def test_a_saved_distiller_keeps_its_views(x, y, tmp_path):
    distiller = distill(kd.views.FunctionMatching(8, seed=5))
    distiller.fit(batches(x, y), verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    again = kd.load_distiller(
        tmp_path / "distiller.keras",
        teacher=distiller._networks().teacher,
    )
    assert again.views.get_config() == distiller.views.get_config()
    np.testing.assert_allclose(
        again.predict(x, verbose=0), distiller.predict(x, verbose=0), rtol=1e-5
    )
    names = [v.name for v in distiller.variables]
    assert "epoch" not in names


# What does not fit.


@pytest.mark.slow
def test_broken_groups(x, y):
    with pytest.raises(ValueError, match="kd.views.grouped_batches"):
        shuffled = (
            kd.views.indexed(tf.data.Dataset.from_tensor_slices((x, y)))
            .shuffle(64, seed=0)
            .batch(16)
        )
        distill(kd.views.FunctionMatching(8)).fit(shuffled, verbose=0)
    arrays = kd.views.indexed(x)
    with pytest.raises(ValueError, match="kd.views.grouped_batches"):
        distill(kd.views.FunctionMatching(8)).fit(arrays, y, verbose=0)
    distiller = distill(kd.views.FunctionMatching(8))
    distiller.fit(arrays, y, shuffle=False, verbose=0)
    distill(kd.views.FunctionMatching(8, mixup=False)).fit(
        arrays, np.eye(CLASSES)[y], verbose=0
    )


@pytest.mark.parametrize("size", [24, 40])
def test_batches_that_end_within_a_group(x, y, size):
    """They could be a whole data set, but there are more."""
    data = kd.views.indexed(tf.data.Dataset.from_tensor_slices((x, y)))
    distiller = distill(kd.views.FunctionMatching(8))
    for _ in range(2):
        with pytest.raises(ValueError, match="of . batches ends within a gr"):
            distiller.fit(data.batch(size), verbose=0)
    with pytest.raises(ValueError, match="of . batches ends within a group"):
        arrays = kd.views.indexed(x)
        distiller.fit(arrays, y, batch_size=size, shuffle=False, verbose=0)


@pytest.mark.slow
def test_batches_that_are_all_there_is(x, y):
    """They may end within a group, and what follows them is checked anew."""
    data = kd.views.indexed(tf.data.Dataset.from_tensor_slices((x, y)))
    distiller = distill(kd.views.FunctionMatching(8))
    distiller.fit(data.take(24).batch(24), verbose=0)
    distiller.fit(data.batch(32), verbose=0)
    distiller.fit(data.batch(32), verbose=0)
    stream = kd.datasets.batches(
        x[:40], y[:40], 48, seed=0, indexed=True, group_size=16
    )
    distiller.fit(stream, steps_per_epoch=2, verbose=0)


def test_views_that_do_not_fit_a_network(x, y):
    with pytest.raises(ValueError, match=r"\(32, 9, 9, 1\).*\(None, 8, 8, 1\)"):
        distill(kd.views.FunctionMatching(9)).fit(x, y, verbose=0)
    views = kd.views.FunctionMatching(8, teacher_image_size=12)
    with pytest.raises(ValueError, match="the teacher inputs of shape"):
        distill(views).fit(x, y, verbose=0)


@pytest.mark.slow
def test_images_in_another_range(x, y):
    views = kd.views.FunctionMatching(8)
    distiller = distill(views)
    with pytest.warns(UserWarning, match=r"in \[.*2..\].*Rescaling") as caught:
        distiller.fit((255 * x).astype("uint8"), y, verbose=0)
        distiller.fit((255 * x).astype("uint8"), y, verbose=0)
    assert len([w for w in caught if "Rescaling" in str(w.message)]) == 1
    rescaling = keras.layers.Rescaling(1 / 255)
    views = kd.views.FunctionMatching(
        8, student_preprocess=rescaling, teacher_preprocess=rescaling
    )
    with pytest.warns() as caught:
        distill(views).fit((255 * x).astype("uint8"), y, verbose=0)
        import warnings

        warnings.warn("one, so that there is something to catch")
    assert not [w for w in caught if "[0, 1]" in str(w.message)]


def test_sparse_labels_and_mixup(x, y):
    distiller = distill(
        kd.views.FunctionMatching(8),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    with pytest.raises(ValueError, match="Compile with CategoricalCrossentr"):
        distiller.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        keras.losses.sparse_categorical_crossentropy,
    ],
    ids=["object", "function"],
)
def test_class_ids_that_are_floats_and_mixup(x, y, loss):
    """They need no change to be blended, so they come back as they are."""
    distiller = distill(kd.views.FunctionMatching(8), loss=loss)
    data = tf.data.Dataset.from_tensor_slices((x, y.astype("float32")))
    with pytest.raises(ValueError, match="Compile with CategoricalCrossentr"):
        distiller.fit(data.batch(32), verbose=0)


@pytest.mark.slow
def test_mixup_of_a_student_with_one_unit(x):
    """Its labels stay the right way round."""
    views = kd.views.FunctionMatching(8)
    student = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    distiller = kd.Distiller(
        student=student,
        teacher=keras.models.clone_model(student),
        distillation_losses=kd.losses.SoftTargets(activation="sigmoid"),
        views=views,
        alpha=0.5,
    )
    distiller.compile(
        "sgd",
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    labels = np.arange(64) % 2
    distiller.fit(x, labels, verbose=0)
    for given in (labels, labels[:, None], labels.astype("float32")):
        mixed = views.evaluation_labels(given)
        np.testing.assert_array_equal(mixed, labels[:, None])
    ones = np.ones((64, 1), "int32")
    np.testing.assert_allclose(views.training(x, ones).y, ones, rtol=1e-6)


def test_images_must_be_images(x):
    with pytest.raises(ValueError, match="takes images of shape"):
        distill(kd.views.Consistent(8), alpha=1.0).fit(x[..., 0], verbose=0)
