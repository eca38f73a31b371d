"""What fit takes: kinds of data, labels, inputs, weights of samples."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import CLASSES
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

layers = keras.layers
X, Y = data(24)


def distill(student=None, teacher=None, loss=None, losses=None, **kwargs):
    distiller = kd.Distiller(
        student=student or convnet(),
        teacher=teacher or convnet(8),
        distillation_losses=losses or kd.losses.SoftTargets(temperature=4.0),
        **kwargs,
    )
    distiller.compile(keras.optimizers.SGD(0.1), loss or crossentropy())
    return distiller


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(8 * index, 8 * index + 8)
        return X[part], Y[part]


def generator():
    for index in range(3):
        yield Sequence()[index]


@pytest.mark.slow
def test_every_kind_of_data_gives_the_same_weights():
    start = convnet().get_weights()
    teacher = convnet(8)
    kinds = {
        "arrays": (X, Y),
        "dataset": (tf.data.Dataset.from_tensor_slices((X, Y)).batch(8),),
        "py_dataset": (Sequence(),),
        "generator": (generator(),),
    }
    results = {}
    for kind, given in kinds.items():
        student = convnet()
        student.set_weights(start)
        more = {"batch_size": 8} if kind == "arrays" else {}
        distill(student, teacher).fit(*given, shuffle=False, verbose=0, **more)
        results[kind] = student.get_weights()
    for kind, weights in results.items():
        for got, wanted in zip(weights, results["arrays"]):
            np.testing.assert_allclose(got, wanted, atol=1e-6, err_msg=kind)


def test_one_hot_labels_give_the_loss_of_sparse_ones():
    student, teacher = convnet(), convnet(8)
    sparse = distill(student, teacher).test_on_batch(X, Y)
    one_hot = distill(
        student,
        teacher,
        keras.losses.CategoricalCrossentropy(from_logits=True),
    ).test_on_batch(X, np.eye(CLASSES)[Y])
    np.testing.assert_allclose(sparse, one_hot, rtol=1e-5)


def test_multi_label_heads():
    y = (np.random.default_rng(0).random((24, CLASSES)) > 0.5).astype("float32")
    distiller = distill(
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        losses=kd.losses.SoftTargets(activation="sigmoid", temperature=2.0),
    )
    p = tf.sigmoid(convert(distiller._networks().teacher(X)) / 2)
    q = tf.sigmoid(convert(distiller.student(X)) / 2)
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    logs = distiller.train_on_batch(X, y, return_dict=True)
    np.testing.assert_allclose(
        logs["soft_targets_loss"], 4 * np.mean(kl), rtol=1e-4
    )


def convert(tensor):
    return np.asarray(tensor, "float64")


@pytest.mark.slow
def test_class_weight_reaches_every_per_sample_term():
    class_weight = {0: 0.0, 1: 2.0, 2: 0.5, 3: 1.0}
    sample_weight = np.array([class_weight[c] for c in Y])
    start, teacher = convnet().get_weights(), convnet(8)
    students = []
    for given in (
        {"class_weight": class_weight},
        {"sample_weight": sample_weight},
        {},
    ):
        student = convnet()
        student.set_weights(start)
        distill(
            student,
            teacher,
            losses=[
                kd.losses.SoftTargets(),
                kd.losses.AttentionTransfer(
                    teacher_layer_name="act1", student_layer_name="act1"
                ),
            ],
        ).fit(X, Y, batch_size=24, shuffle=False, verbose=0, **given)
        students.append(student.get_weights())
    for a, b in zip(students[0], students[1]):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert any(
        np.abs(a - c).max() > 1e-4 for a, c in zip(students[0], students[2])
    )


@pytest.mark.parametrize("name", ["hint", "attention", "soft_targets"])
def test_weight_zero_removes_a_sample(name):
    taps = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
    loss = {
        "hint": lambda: kd.losses.Hint(**taps),
        "attention": lambda: kd.losses.AttentionTransfer(**taps),
        "soft_targets": kd.losses.SoftTargets,
    }[name]()
    student, teacher = convnet(), convnet(8)
    distiller = distill(student, teacher, losses={"it": loss})
    distiller.optimizer.learning_rate = 0.0
    weights = np.ones(24, "float32")
    weights[12:] = 0
    logs = distiller.train_on_batch(
        X, Y, sample_weight=weights, return_dict=True
    )
    half = distiller.train_on_batch(X[:12], Y[:12], return_dict=True)
    # sum(w * l) / batch: half of the samples count, divided by all.
    np.testing.assert_allclose(logs["it_loss"], half["it_loss"] / 2, rtol=1e-5)
    np.testing.assert_allclose(
        logs["student_loss"], half["student_loss"] / 2, rtol=1e-5
    )


@pytest.mark.slow
def test_networks_of_different_resolution_through_views():
    views = kd.views.Preprocessing(
        student=layers.Resizing(8, 8), teacher=layers.Rescaling(2.0)
    )
    images = np.random.default_rng(0).random((24, 16, 16, 3)).astype("float32")
    student, teacher = convnet(), convnet(8, size=16)
    distiller = distill(student, teacher, views=views)
    distiller.fit(images, Y, verbose=0)
    seen = layers.Resizing(8, 8)(images)
    np.testing.assert_allclose(
        distiller.predict(images, verbose=0), student(seen), atol=1e-5
    )
    p = tf.nn.softmax(teacher(2 * images) / 4)
    log_q = tf.nn.log_softmax(student(seen) / 4)
    kl = 16 * tf.reduce_mean(tf.reduce_sum(p * (tf.math.log(p) - log_q), -1))
    logs = distiller.train_on_batch(images, Y, return_dict=True)
    np.testing.assert_allclose(logs["soft_targets_loss"], kl, rtol=1e-3)


@pytest.mark.slow
def test_a_dict_dataset_gives_each_network_its_own():
    small = X[:, ::2, ::2]
    student, teacher = convnet(size=4), convnet(8)
    distiller = distill(student, teacher)
    x = {"student": small, "teacher": X}
    distiller.fit(x, Y, verbose=0)
    np.testing.assert_allclose(
        distiller.predict(x, verbose=0), student(small), atol=1e-5
    )


@pytest.mark.slow
def test_input_names_and_dtypes_may_differ():
    tokens = keras.Input((), dtype="int32", name="token")
    x = layers.Embedding(10, 8)(tokens)
    teacher = keras.Model(tokens, layers.Dense(CLASSES)(x))
    student = convnet()  # takes "image"
    rng = np.random.default_rng(0)
    x = {"image": X, "token": rng.integers(0, 10, 24)}
    distiller = distill(student, teacher)
    distiller.fit(x, Y, verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices((x, Y)).batch(8)
    history = distiller.fit(dataset, validation_data=dataset, verbose=0)
    assert np.isfinite(history.history["val_loss"][0])


@pytest.mark.slow
def test_several_inputs_and_outputs():
    def model(width):
        a = keras.Input((8, 8, 3), name="a")
        b = keras.Input((2,), name="b")
        x = layers.Concatenate()([layers.Flatten()(a), b])
        x = layers.Dense(width, activation="relu", name="trunk")(x)
        outputs = {
            "one": layers.Dense(CLASSES, name="one")(x),
            "two": layers.Dense(1, name="two")(x),
        }
        return keras.Model({"a": a, "b": b}, outputs)

    student, teacher = model(4), model(8)
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses={
            "soft": kd.losses.SoftTargets(
                teacher_layer_name="one", student_layer_name="one"
            ),
            "mse": kd.losses.LogitsMSE(
                teacher_layer_name="two", student_layer_name="two"
            ),
        },
    )
    distiller.compile(
        "sgd",
        loss={"one": crossentropy(), "two": "mse"},
        metrics={"one": ["accuracy"]},
    )
    x = {"a": X, "b": np.ones((24, 2), "float32")}
    y = {"one": Y, "two": np.ones((24, 1), "float32")}
    history = distiller.fit(x, y, verbose=0).history
    difference = np.square(teacher(x)["two"] - student(x)["two"])
    assert history["two_loss"][0] > 0
    logs = distiller.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["mse_loss"], difference.mean(), rtol=1e-3)
    # Keras logs the task loss of output "two" as "two_loss".
    same_name = kd.losses.LogitsMSE(
        name="two", teacher_layer_name="two", student_layer_name="two"
    )
    with pytest.raises(ValueError, match="'two_loss'.*output"):
        kd.Distiller(
            student=student, teacher=teacher, distillation_losses=same_name
        ).compile("sgd", loss={"one": crossentropy(), "two": "mse"})
    # The name of the output layer is the way; without it the error says so.
    with pytest.raises(ValueError, match="layer_name"):
        kd.Distiller(
            student=model(4),
            teacher=teacher,
            distillation_losses=kd.losses.SoftTargets(),
        )


@pytest.mark.slow
def test_outputs_as_a_list():
    def model(width):
        inputs = keras.Input((8, 8, 3))
        x = layers.Dense(width, name="trunk")(layers.Flatten()(inputs))
        heads = [layers.Dense(CLASSES, name=n)(x) for n in ("left", "right")]
        return keras.Model(inputs, heads)

    taps = {"teacher_layer_name": "left", "student_layer_name": "left"}
    distiller = kd.Distiller(
        student=model(4),
        teacher=model(8),
        distillation_losses=kd.losses.SoftTargets(**taps),
    )
    distiller.compile("sgd", loss=[crossentropy(), crossentropy()])
    history = distiller.fit(X, [Y, Y], verbose=0).history
    assert np.isfinite(history["loss"][0])


@pytest.mark.slow
def test_teacher_with_more_classes_through_class_map():
    teacher, student = convnet(8, classes=9), convnet()
    wanted = [8, 0, 3, 5]
    distiller = distill(
        student,
        teacher,
        losses=kd.losses.SoftTargets(temperature=4.0, class_map=wanted),
    )
    p = tf.nn.softmax(tf.gather(teacher(X), wanted, axis=-1) / 4)
    log_q = tf.nn.log_softmax(student(X) / 4)
    kl = 16 * tf.reduce_mean(tf.reduce_sum(p * (tf.math.log(p) - log_q), -1))
    logs = distiller.train_on_batch(X, Y, return_dict=True)
    np.testing.assert_allclose(logs["soft_targets_loss"], kl, rtol=1e-3)
    assert "agreement" not in logs


@pytest.mark.slow
def test_validation_split_and_sample_weights_in_arrays():
    history = (
        distill()
        .fit(
            X,
            Y,
            sample_weight=np.ones(24),
            validation_split=0.5,
            verbose=0,
        )
        .history
    )
    assert np.isfinite(history["val_loss"][0])


def test_the_first_batch_of_a_generator_is_not_lost():
    seen = []

    def batches():
        for index in range(3):
            seen.append(index)
            yield X[8 * index : 8 * index + 8], Y[8 * index : 8 * index + 8]

    distiller = distill()
    distiller.fit(batches(), steps_per_epoch=3, verbose=0)
    assert seen == [0, 1, 2]
    assert int(distiller.optimizer.iterations) == 3
