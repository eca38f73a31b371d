"""Void pixels count nowhere; weights and labels of positions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd
from keras_distill import losses
from keras_distill._training.positions import weight_of_each_position

VOID, CLASSES = 255, 3
TAPS = {"teacher_layer_name": "logits", "student_layer_name": "logits"}
FLOW = {
    "teacher_layer_name": ["logits", "other"],
    "student_layer_name": ["logits", "other"],
}
LOSSES = {
    "soft_targets": losses.SoftTargets,
    "sigmoid": lambda: losses.SoftTargets(activation="sigmoid"),
    "hard_labels": losses.HardLabels,
    "standardized": lambda: losses.SoftTargets(standardize=True),
    "reverse": lambda: losses.SoftTargets(direction="reverse"),
    "jensen_shannon": losses.JensenShannon,
    "skew_kl": losses.SkewKL,
    "permuted": losses.DarkKnowledgeWithPermutedPredictions,
    "logits_mse": losses.LogitsMSE,
    "decoupled_kd": losses.DecoupledKD,
    "dist": losses.DIST,
    "confidence": losses.ConfidenceWeightedByTeacherMax,
    "hint": lambda: losses.Hint(**TAPS),
    "attention": lambda: losses.AttentionTransfer(**TAPS),
    "channel_wise": lambda: losses.ChannelWise(**TAPS),
    "pearson": lambda: losses.PearsonFeature(**TAPS),
    "selectivity": lambda: losses.NeuronSelectivityTransfer(**TAPS),
    "boundary": lambda: losses.ActivationBoundary(**TAPS),
    "overhauled": lambda: losses.OverhauledFeature(margin=-0.5, **TAPS),
    "review": lambda: losses.KnowledgeReview(fusion=None, **TAPS),
    "fused_review": lambda: losses.KnowledgeReview(**TAPS),
    "factor": lambda: losses.FactorTransfer(**TAPS),
    "generative": lambda: losses.MaskedGenerative(**TAPS),
    "variational": lambda: losses.VariationalInformation(**TAPS),
    "similarity": losses.SimilarityPreserving,
    "distance": losses.RelationalDistance,
    "patches": losses.PatchSimilarity,
    "channels": lambda: losses.InterChannelCorrelation(
        regressor="conv1x1", **TAPS
    ),
    "flow": lambda: losses.FlowOfSolutionProcedure(**FLOW),
    "queue": lambda: losses.QueueSimilarity(queue_size=8),
    "contrast": lambda: losses.ContrastiveRepresentation(
        sample_count=5, negatives=4
    ),
    "aligned": lambda: losses.LayerAlignedVariationalInformation(
        entropy="standardized", **TAPS
    ),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def labels(*shape):
    generator = np.random.default_rng(3)
    y = generator.integers(0, CLASSES, shape)
    y[generator.random(shape) < 0.3] = VOID
    return y


def network(width, outputs=None):
    x = keras.Input((4, 6, 3))
    feature = keras.layers.Conv2D(width, 3, padding="same", name="feature")(x)
    logits = keras.layers.Conv2D(CLASSES, 1, name="logits")(feature)
    if outputs is None:
        return keras.Model(x, logits)
    means = keras.layers.GlobalAveragePooling2D()(feature)
    return keras.Model(
        x, {"map": logits, "one": keras.layers.Dense(2, name="one")(means)}
    )


def cross_entropy(**kwargs):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, **kwargs
    )


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_at_void_pixels_does_not_matter(name):
    loss = LOSSES[name]()
    y = labels(3, 4, 6)
    valid = y != VOID
    weight = valid * (valid.size / valid.sum())
    state = []  # Of a queue, a memory or moments, as the first call leaves it.

    def value_and_gradient(seed):
        loss.set_weights(state)
        if getattr(loss, "seed_generator", None):  # The same draws again.
            loss.seed_generator.state.assign([0, 0])
        teacher, student = (
            tf.constant(
                np.where(
                    valid[..., None],
                    normal(3, 4, 6, CLASSES, seed=i),
                    9 * normal(3, 4, 6, CLASSES, seed=seed + i),
                )
            )
            for i in (1, 2)
        )
        with tf.GradientTape() as tape:
            tape.watch(student)
            taps = [teacher, student]
            if name == "flow":
                taps = [{"logits": x, "other": x} for x in taps]
            result = loss.compute_loss(
                *taps, y=y, sample_weight=weight, sample_index=np.arange(3)
            )
        return result.numpy(), tape.gradient(result, student).numpy()

    value_and_gradient(10)
    state = loss.get_weights()
    one, gradient = value_and_gradient(10)
    other, _ = value_and_gradient(20)
    np.testing.assert_allclose(one, other, rtol=2e-5)
    assert abs(gradient[valid]).max() > 0
    assert abs(gradient[~valid]).max() == 0


def test_weights_of_a_smaller_map_are_averaged():
    weight = np.abs(normal(2, 4, 6))
    teacher, student = normal(2, 2, 3, 5), normal(2, 2, 3, 5, seed=1)
    value = losses.Hint(**TAPS).compute_loss(
        teacher, student, sample_weight=weight
    )
    smaller = weight.reshape(2, 2, 2, 3, 2).mean(axis=(2, 4))
    expected = np.mean(smaller[..., None] * (teacher - student) ** 2)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.slow
def test_weights_of_pixels_whose_size_shows_on_data():
    x, y = normal(4, 4, 6, 3), labels(4, 4, 6) % CLASSES
    weight = np.abs(normal(4, 4, 6, seed=1))

    def halving(seed):
        keras.utils.set_random_seed(seed)
        image = keras.Input((4, 6, 3))
        half = keras.layers.Conv2D(CLASSES, 2, strides=2, name="half")(image)
        return keras.Model(image, keras.layers.UpSampling2D()(half))

    free = tf.TensorSpec((None, None), tf.int64), tf.TensorSpec((None, None))
    found = []
    for specs in (free, [tf.TensorSpec((4, 6), s.dtype) for s in free]):
        distiller = kd.Distiller(
            student=halving(0),
            teacher=halving(1),
            distillation_losses=losses.Hint(
                teacher_layer_name="half", student_layer_name="half"
            ),
        )
        distiller.compile(keras.optimizers.SGD(0.0), cross_entropy())
        dataset = tf.data.Dataset.from_generator(
            lambda: zip(x, y, weight),
            output_signature=(tf.TensorSpec((4, 6, 3)), *specs),
        )
        history = distiller.fit(dataset.batch(4), verbose=0).history
        found.append(history["hint_loss"])
    np.testing.assert_allclose(*found, rtol=1e-6)


def softmax(x):
    p = np.exp(x - x.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def test_a_step_by_hand():
    x, y = normal(5, 4, 6, 3), labels(5, 4, 6)
    teacher, student = network(4), network(2)
    t, s = (np.asarray(model(x)) for model in (teacher, student))
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=losses.SoftTargets(),
    )
    miou = keras.metrics.MeanIoU(
        CLASSES, ignore_class=VOID, sparse_y_pred=False
    )
    distiller.compile(
        optimizer=keras.optimizers.SGD(0.0),
        loss=cross_entropy(ignore_class=VOID),
        metrics=[miou],
    )
    history = distiller.fit(x, y, batch_size=5, verbose=0).history
    valid = y != VOID
    p, q = softmax(t)[valid], softmax(s)[valid]
    found, wanted = s.argmax(-1)[valid], y[valid]
    ious = [
        np.sum((found == c) & (wanted == c))
        / np.sum((found == c) | (wanted == c))
        for c in range(CLASSES)
        if np.any((found == c) | (wanted == c))
    ]
    expected = {
        "soft_targets_loss": np.sum(p * np.log(p / q), -1).mean(),
        "student_loss": -np.log(q[range(len(q)), wanted]).mean(),
        "agreement": np.mean(t.argmax(-1)[valid] == found),
        "mean_io_u": np.mean(ious),
    }
    for key, value in expected.items():
        np.testing.assert_allclose(history[key], [value], rtol=1e-4)


@pytest.mark.slow
def test_void_of_one_output_of_several():
    x, y = normal(5, 4, 6, 3), labels(5, 4, 6)
    teacher, student = network(4), network(2, "several")
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=losses.SoftTargets(student_layer_name="logits"),
    )
    distiller.compile(
        optimizer=keras.optimizers.SGD(0.0),
        loss={
            "map": cross_entropy(ignore_class=VOID),
            "one": cross_entropy(),
        },
    )
    p, q = (
        softmax(np.asarray(z))[y != VOID]
        for z in (teacher(x), student(x)["map"])
    )
    y = {"map": y, "one": np.arange(5) % 2}
    history = distiller.fit(x, y, batch_size=5, verbose=0).history
    expected = np.sum(p * np.log(p / q), -1).mean()
    np.testing.assert_allclose(
        history["soft_targets_loss"], [expected], rtol=1e-4
    )


def compiled(make=losses.SoftTargets):
    keras.utils.set_random_seed(0)
    distiller = kd.Distiller(
        student=network(2),
        teacher=network(4),
        distillation_losses=make(),
    )
    distiller.compile(
        optimizer=keras.optimizers.SGD(0.0),
        loss=cross_entropy(ignore_class=VOID),
    )
    return distiller


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:class_weight moves")
@pytest.mark.parametrize(
    "kind, make",
    [
        *((k, "soft_targets") for k in ("arrays", "dataset", "one_hot")),
        ("batch", "soft_targets"),
        ("batch", "attention"),
    ],
)
def test_class_weights_of_pixels(kind, make):
    x, y = normal(4, 4, 6, 3), labels(4, 4, 6)
    given = np.array([0.5, 1.0, 2.0, 1.0], "float32")
    weight = np.select([y == 0, y == 2], [0.5, 4.0], 1.0) * given[:, None, None]
    expected = compiled(LOSSES[make]).train_on_batch(
        x, y, sample_weight=weight, return_dict=True
    )["loss"]
    distiller, weights = compiled(LOSSES[make]), {0: 0.5, 2: 4.0}
    if kind == "batch":
        result = distiller.train_on_batch(
            x, y[..., None], given, weights, return_dict=True
        )["loss"]
    elif kind == "dataset":
        data = tf.data.Dataset.from_tensors((x, y, given))
        history = distiller.fit(data, class_weight=weights, verbose=0).history
        result = history["loss"][0]
    elif kind == "arrays":
        options = {"class_weight": weights, "sample_weight": given}
        history = distiller.fit(x, y, verbose=0, **options).history
        result = history["loss"][0]
    else:
        from keras_distill._data.class_weights import weights_of_labels

        rows = np.eye(CLASSES)[np.where(y == VOID, 1, y)]
        of_labels = weights_of_labels(rows, weights, (None, 4, 6, CLASSES))
        np.testing.assert_allclose(of_labels * given[:, None, None], weight)
        return
    np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("as_dataset", [False, True])
@pytest.mark.parametrize(
    "y_shape, weight_shape, message",
    [
        ((4, 2, 3), None, r"labels must have the shape \(None, 4, 6\)"),
        ((4, 4, 6), (4, 2, 3), r"\(None, 4, 6\), so sample_weight must"),
        ((4, 4, 6), (4, 4, 6, 3), r"sample_weight of shape"),
    ],
)
def test_masks_of_another_shape(y_shape, weight_shape, message, as_dataset):
    x, y = normal(4, 4, 6, 3), labels(*y_shape)
    weight = None if weight_shape is None else np.ones(weight_shape)
    arguments = {"x": x, "y": y, "sample_weight": weight}
    if as_dataset:
        parts = [part for part in arguments.values() if part is not None]
        arguments = {"x": tf.data.Dataset.from_tensors(tuple(parts))}
    with pytest.raises(ValueError, match=message):
        compiled().fit(**arguments, verbose=0)


def test_class_weights_of_pixels_in_a_generator():
    batches = ((normal(4, 4, 6, 3), labels(4, 4, 6)) for _ in range(2))
    with pytest.raises(ValueError, match="weight of each position"):
        compiled().fit(batches, class_weight={0: 1.0}, steps_per_epoch=1)


@pytest.mark.filterwarnings("ignore:class_weight moves")
def test_class_weights_of_pixels_leave_the_validation_alone(monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda self, *_, **options: options)
    x, y = normal(5, 4, 6, 3), labels(5, 4, 6)
    options = {"class_weight": {0: 0.1, 2: 9.0}, "validation_split": 0.5}
    weight = compiled().fit(x, y, **options)["sample_weight"]
    expected = np.select([y == 0, y == 2], [0.1, 9.0], 1.0)
    expected[2:] = 1.0  # Keras validates on the last 3 of 5.
    np.testing.assert_allclose(weight, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.MeanSquaredError(),
        keras.losses.Huber(name="mine"),
        keras.losses.KLDivergence(),
        keras.losses.CategoricalHinge(),
        keras.losses.CategoricalCrossentropy(),
    ],
)
def test_weights_of_images_where_the_batch_is_as_large_as_a_row(loss):
    y = np.eye(CLASSES, dtype="float32")[labels(4, 4, 4) % CLASSES]
    output = softmax(normal(4, 4, 4, CLASSES))
    weight = np.array([0.0, 1.0, 2.0, 5.0], "float32")
    expected = np.mean(
        [w * loss(y[[i]], output[[i]]) for i, w in enumerate(weight)]
    )
    weight = weight_of_each_position(weight, output.shape, loss)
    np.testing.assert_allclose(loss(y, output, weight), expected, rtol=1e-5)


def test_weights_of_images_that_the_loss_divides_by():
    loss = cross_entropy(reduction="mean_with_sample_weight")
    y, output = labels(2, 4, 6) % CLASSES, normal(2, 4, 6, CLASSES)
    weight = np.array([1.0, 3.0], "float32")
    expected = loss(y, output, weight[:, None, None] * np.ones((2, 4, 6)))
    weight = weight_of_each_position(weight, output.shape, loss)
    np.testing.assert_allclose(loss(y, output, weight), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.Dice(axis=(1, 2, 3)),
        lambda y, output: keras.ops.mean(y - output, axis=(1, 2, 3)),
    ],
)
def test_weights_of_images_for_a_loss_of_images(loss):
    weight = weight_of_each_position(np.ones(4), (4, 4, 4, CLASSES), loss)
    assert weight.shape == (4,)


def of_two_outputs():
    distiller = kd.Distiller(
        student=network(2, "several"),
        teacher=network(4, "several"),
        distillation_losses={"map": losses.SoftTargets()},
    )
    loss = {"map": cross_entropy(ignore_class=VOID), "one": cross_entropy()}
    distiller.compile(optimizer=keras.optimizers.SGD(0.0), loss=loss)
    return distiller


@pytest.mark.parametrize(
    "size, options, message",
    [
        ((2, 3), {}, r"'map': .*labels must have the shape \(None, 4, 6\)"),
        (
            (4, 6),
            {"class_weight": {0: 2.0}},
            "one output, .* has 2.*sample_weight={'name of the output'",
        ),
    ],
)
def test_labels_and_class_weights_of_one_output_of_several(
    size, options, message
):
    y = {"map": labels(4, *size), "one": np.arange(4) % 2}
    with pytest.raises(ValueError, match=message):
        of_two_outputs().fit(normal(4, 4, 6, 3), y, verbose=0, **options)


def without_labels():
    distiller = kd.Distiller(
        student=network(2),
        teacher=network(4),
        distillation_losses=losses.SoftTargets(),
        alpha=1.0,
    )
    distiller.compile(optimizer=keras.optimizers.SGD(0.0))
    return distiller


@pytest.mark.parametrize("call", ["fit", "evaluate", "validation"])
def test_weights_of_arrays_without_labels(call):
    x, weight = normal(4, 4, 6, 3), np.zeros((4, 4, 6))
    distiller = without_labels()
    with pytest.raises(ValueError, match=r"sample_weight.*\(x, None, sample"):
        if call == "validation":
            distiller.fit(x, validation_data=(x, None, weight))
        else:
            getattr(distiller, call)(x, sample_weight=weight)


@pytest.mark.slow
def test_weights_of_a_dataset_without_labels():
    x, weight = normal(4, 4, 6, 3), np.zeros((4, 4, 6))
    data = tf.data.Dataset.from_tensor_slices((x, None, weight)).batch(4)
    assert without_labels().fit(data, verbose=0).history["loss"] == [0.0]


def test_a_py_dataset_with_none():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return normal(4, 4, 6, 3), None, np.zeros((4, 4, 6))

    with pytest.raises(ValueError, match="cannot read None"):
        without_labels().fit(Batches())
