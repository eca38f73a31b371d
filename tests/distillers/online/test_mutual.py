"""Mutual learning: the objective by hand, and what a user does with it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import nightly
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

layers = keras.layers
X, Y = data(48)


def cohort(students=None, compile=None, **kwargs):
    students = students or {"first": convnet(), "second": convnet(6)}
    made = kd.MutualDistiller(students=students, **kwargs)
    settings = {
        "optimizer": keras.optimizers.SGD(0.5),
        "loss": crossentropy(),
        "metrics": ["accuracy"],
    }
    made.compile(**{**settings, **(compile or {})})
    return made


def three(**kwargs):
    return {
        "first": convnet(**kwargs),
        "second": convnet(6, **kwargs),
        "third": convnet(5, **kwargs),
    }


def copy_of(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def fit(made, x=X, y=Y, epochs=1, **kwargs):
    return made.fit(
        x, y, batch_size=16, epochs=epochs, verbose=0, shuffle=False, **kwargs
    )


def hand_written_step(students, alternating, alpha, temperature, weights, rate):
    """The step from its definition, with plain SGD; changes the students.

    Returns the loss of each student.
    """
    shown = {name: s(X, training=True) for name, s in students.items()}
    losses = {}
    for name, student in students.items():
        with tf.GradientTape() as tape:
            logits = student(X, training=True)
            own = tf.nn.log_softmax(logits / temperature)
            divergences = []
            for peer in students:
                if peer != name:
                    p = tf.nn.softmax(shown[peer] / temperature)
                    kl = tf.reduce_sum(p * (tf.math.log(p) - own), -1)
                    divergences.append(temperature**2 * kl)
            kl = sum(divergences) / len(divergences)
            ce = tf.nn.sparse_softmax_cross_entropy_with_logits(Y, logits)
            loss = tf.reduce_mean(weights * (alpha * kl + (1 - alpha) * ce))
        variables = student.trainable_variables
        for variable, gradient in zip(
            variables, tape.gradient(loss, variables)
        ):
            variable.assign_sub(rate * gradient)
        if alternating:
            shown[name] = student(X, training=True)
        losses[name] = float(loss)
    return losses


@pytest.mark.slow
@pytest.mark.parametrize(
    "update, eagerly",
    [
        ("joint", False),
        ("alternating", True),
        pytest.param("joint", True, marks=pytest.mark.nightly),
        pytest.param("alternating", False, marks=pytest.mark.nightly),
    ],
)
def test_steps_are_the_objective(update, eagerly):
    students = three()
    copies = {name: copy_of(student) for name, student in students.items()}
    weights = np.linspace(0, 2, len(X)).astype("float32")
    made = cohort(
        students,
        {"run_eagerly": eagerly},
        distillation_losses=kd.losses.SoftTargets(temperature=2.0),
        alpha=0.3,
        update=update,
    )
    for _ in range(3):
        logs = made.train_on_batch(X, Y, weights, return_dict=True)
    for _ in range(3):
        expected = hand_written_step(
            copies, update == "alternating", 0.3, 2.0, weights, 0.5
        )
    # The logs are means since the start, the weights those after step 3.
    for name, student in students.items():
        for got, want in zip(student.get_weights(), copies[name].get_weights()):
            np.testing.assert_allclose(got, want, atol=2e-6, err_msg=name)
    made.reset_metrics()
    logs = made.train_on_batch(X, Y, weights, return_dict=True)
    expected = hand_written_step(
        copies, update == "alternating", 0.3, 2.0, weights, 0.5
    )
    for name, loss in expected.items():
        np.testing.assert_allclose(logs[f"{name}_loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], sum(expected.values()), rtol=1e-5)


@pytest.mark.slow
def test_joint_and_alternating_differ():
    # Else the test above could not tell one from the other.
    networks = three()
    results = []
    for update in ("joint", "alternating"):
        students = {name: copy_of(s) for name, s in networks.items()}
        made = cohort(students, {"run_eagerly": True}, update=update)
        for _ in range(3):
            made.train_on_batch(X, Y)
        results.append(students)
    joint, alternating = results
    # The first student of the first step sees the same; later all differ.
    for name in networks:
        different = np.abs(
            joint[name].get_weights()[0] - alternating[name].get_weights()[0]
        )
        assert different.max() > 1e-6, name


@pytest.mark.slow
def test_logs_hold_the_parts_of_every_student():
    made = cohort(
        distillation_losses=[
            kd.losses.SoftTargets(),
            kd.losses.LogitsMSE(name="mse"),
        ],
        distillation_loss_weights=[1.0, 3.0],
        alpha=0.25,
    )
    history = fit(made, validation_data=(X, Y)).history
    logs = {name: values[0] for name, values in history.items()}
    for name in ("first", "second"):
        np.testing.assert_allclose(
            logs[f"{name}_distillation_loss"],
            logs[f"{name}_soft_targets_loss"] + 3 * logs[f"{name}_mse_loss"],
            rtol=1e-5,
        )
        np.testing.assert_allclose(
            logs[f"{name}_loss"],
            0.25 * logs[f"{name}_distillation_loss"]
            + 0.75 * logs[f"{name}_student_loss"],
            rtol=1e-5,
        )
        plain = copy_of(made.students[name])
        plain.compile(loss=crossentropy(), metrics=["accuracy"])
        loss, accuracy = plain.evaluate(X, Y, verbose=0)
        np.testing.assert_allclose(logs[f"val_{name}_loss"], loss, rtol=1e-5)
        np.testing.assert_allclose(logs[f"val_{name}_accuracy"], accuracy)
    assert logs["loss"] == pytest.approx(
        logs["first_loss"] + logs["second_loss"], rel=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("update", ["joint", "alternating"])
def test_statistics_and_regularizers_are_those_of_one_pass(update):
    students = {
        "first": convnet(batch_norm=True),
        "second": convnet(6, batch_norm=True),
    }
    copies = {name: copy_of(s) for name, s in students.items()}
    for network in (*students.values(), *copies.values()):
        network.get_layer("head").kernel.regularizer = keras.regularizers.L2(
            0.1
        )
        network.get_layer("act1").activity_regularizer = keras.regularizers.L2(
            0.01
        )
    made = cohort(students, update=update, alpha=0.0)
    logs = made.train_on_batch(X, Y, return_dict=True)
    for name, student in students.items():
        copies[name](X, training=True)
        for statistic in ("moving_mean", "moving_variance"):
            np.testing.assert_allclose(
                getattr(student.get_layer("bn"), statistic),
                getattr(copies[name].get_layer("bn"), statistic),
                rtol=1e-6,
            )
        penalty = sum(copies[name].losses)
        assert len(copies[name].losses) == 2
        np.testing.assert_allclose(
            logs[f"{name}_loss"],
            logs[f"{name}_student_loss"] + penalty,
            rtol=1e-5,
        )


def test_every_student_runs_as_often_as_is_said():
    for update, passes in (("joint", [1, 1]), ("alternating", [2, 1])):
        students = {"first": Subclassed(name="a"), "second": Subclassed(6)}
        made = cohort(students, {"run_eagerly": True}, update=update)
        made.train_on_batch(X, Y)
        before = [student.calls for student in students.values()]
        made.train_on_batch(X, Y)
        after = [student.calls for student in students.values()]
        assert [b - a for a, b in zip(before, after)] == passes


@pytest.mark.slow
def test_peers_of_other_widths_match_features():
    taps = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
    made = cohort(
        three(),
        {"run_eagerly": True},
        distillation_losses=kd.losses.Hint(**taps),
    )
    kernels = {
        name: [
            loss.trainable_variables[0]
            for loss in member.distillation_losses.values()
        ]
        for name, member in made._members.items()
    }
    widths = {"first": 4, "second": 6, "third": 5}
    for name, several in kernels.items():
        peers = [w for other, w in widths.items() if other != name]
        assert [k.shape[-1] for k in several] == peers
        assert {k.shape[-2] for k in several} == {widths[name]}
    before = {n: [k.numpy() for k in ks] for n, ks in kernels.items()}
    history = fit(made, epochs=3).history
    assert history["loss"][-1] < history["loss"][0]
    for name, several in kernels.items():
        for old, kernel in zip(before[name], several):
            assert np.abs(old - kernel.numpy()).max() > 0


@pytest.mark.slow
def test_schedules_advance_once_per_step_and_callbacks_reach_all():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [2], [0.5, 0.0]
    )
    made = cohort(
        compile={"optimizer": keras.optimizers.SGD(schedule)},
        update="alternating",
    )
    for _ in range(3):
        made.train_on_batch(X, Y)
    frozen = made.get_weights()
    made.train_on_batch(X, Y)
    for before, after in zip(frozen, made.get_weights()):
        np.testing.assert_array_equal(before, after)
    for member in made._members.values():
        assert int(member.optimizer.iterations) == 4

    made = cohort()
    stop = keras.callbacks.LearningRateScheduler(lambda epoch: 0.0)
    before = made.get_weights()
    fit(made, callbacks=[stop])
    for old, new in zip(before, made.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
def test_every_student_ends_with_the_average_of_its_weights():
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    made = cohort(compile={"optimizer": optimizer})
    fit(made)
    for member in made._members.values():
        averages = member.optimizer._model_variables_moving_average
        for weight, average in zip(
            member.trainable_variables, averages, strict=True
        ):
            np.testing.assert_array_equal(weight, average)


def test_swapping_the_weights_of_one_optimizer_is_refused():
    optimizer = keras.optimizers.SGD(0.1, use_ema=True)
    made = cohort(compile={"optimizer": optimizer})
    with pytest.raises(ValueError, match="each student of a cohort has its"):
        fit(made, callbacks=keras.callbacks.SwapEMAWeights())


@pytest.mark.slow
def test_gradient_accumulation_is_one_larger_batch():
    networks = {"first": convnet(), "second": convnet(6)}
    results = []
    for steps in (1, 3):
        students = {name: copy_of(s) for name, s in networks.items()}
        made = cohort(
            students,
            {
                "optimizer": keras.optimizers.SGD(
                    0.5,
                    gradient_accumulation_steps=steps if steps > 1 else None,
                )
            },
        )
        made.fit(
            X, Y, batch_size=48 // steps, epochs=1, shuffle=False, verbose=0
        )
        results.append(students)
    for name in networks:
        for one, several in zip(*(r[name].get_weights() for r in results)):
            np.testing.assert_allclose(several, one, atol=2e-6)


@pytest.mark.slow
def test_a_half_precision_student_gets_its_own_loss_scale():
    students = {"half": convnet(dtype="mixed_float16"), "whole": convnet(6)}
    made = cohort(students, {"optimizer": keras.optimizers.SGD(0.2)})
    kinds = {
        name: type(member.optimizer).__name__
        for name, member in made._members.items()
    }
    assert kinds == {"half": "LossScaleOptimizer", "whole": "SGD"}
    copies = {
        "half": convnet(),
        "whole": convnet(6),
    }
    for name, copy in copies.items():
        copy.set_weights(students[name].get_weights())
    made.train_on_batch(X, Y)
    hand_written_step(copies, False, 0.5, 1.0, np.ones(len(X), "float32"), 0.2)
    for name, student in students.items():
        for got, want in zip(student.get_weights(), copies[name].get_weights()):
            np.testing.assert_allclose(got, want, atol=2e-3)


@pytest.mark.slow
def test_without_labels_they_still_agree():
    made = kd.MutualDistiller(students=[convnet(), convnet(6)], alpha=1.0)
    made.compile(keras.optimizers.SGD(0.5))
    history = made.fit(X, epochs=4, batch_size=16, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    with pytest.raises(ValueError, match="no labels"):
        cohort().fit(X, verbose=0)


@pytest.mark.slow
def test_views_and_indexed_data_and_named_inputs():
    views = kd.views.Preprocessing(student=layers.Rescaling(0.5))
    eager = {"run_eagerly": True}
    made = cohort(None, eager, views=views)
    plain = cohort({n: copy_of(s) for n, s in made.students.items()}, eager)
    got = made.train_on_batch(kd.views.indexed(X), Y, return_dict=True)
    want = plain.train_on_batch(0.5 * X, Y, return_dict=True)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5)
    np.testing.assert_allclose(
        plain.predict({"image": X}, verbose=0)["first"],
        plain.students["first"].predict(X, verbose=0),
        atol=1e-5,
    )


# The best, and what ships.


@pytest.mark.slow
def test_the_best_student_is_that_of_the_last_evaluation():
    made = cohort(compile={"run_eagerly": True})
    with pytest.raises(ValueError, match="before an evaluation.*'first'"):
        made.best_student()
    with pytest.raises(ValueError, match="before an evaluation"):
        made.export("student.keras")
    labels = made.predict(X, verbose=0)["second"].argmax(-1)
    made.evaluate(X, labels, verbose=0)
    assert made.best_student() is made.students["second"]
    labels = made.predict(X, verbose=0)["first"].argmax(-1)
    fit(made, validation_data=(X, Y))
    made.evaluate(X, labels, verbose=0)
    results = made.evaluate(X, Y, verbose=0, return_dict=True)
    by_loss = min(("first", "second"), key=lambda n: results[f"{n}_loss"])
    assert made.best_student_name("loss") == by_loss
    worst = {"first": "second", "second": "first"}[by_loss]
    assert made.best_student_name("loss", mode="max") == worst
    with pytest.raises(ValueError, match="monitor='auc'.*'accuracy', 'loss'"):
        made.best_student("auc")
    with pytest.raises(ValueError, match="mode must be one of"):
        made.best_student("loss", mode="up")


def test_a_metric_of_unknown_direction_wants_a_mode():
    def agreement_of_parity(y_true, y_pred):
        return keras.ops.zeros_like(y_true)

    made = cohort(
        compile={"metrics": [agreement_of_parity], "run_eagerly": True}
    )
    made.evaluate(X, Y, verbose=0)
    with pytest.raises(ValueError, match="mode='max' or mode='min'"):
        made.best_student()
    assert made.best_student_name(mode="max") == "first"


@pytest.mark.slow
def test_export_of_the_best_or_the_named(tmp_path):
    made = cohort(compile={"run_eagerly": True})
    fit(made, validation_data=(X, Y))
    paths = [
        made.export(tmp_path / "best.keras"),
        made.export(tmp_path / "named.keras", student="second"),
        made.export(tmp_path / "other.keras", student="first"),
    ]
    students = [
        made.best_student(),
        made.students["second"],
        made.students["first"],
    ]
    for path, student in zip(paths, students, strict=True):
        np.testing.assert_allclose(
            keras.saving.load_model(path)(X), student(X), atol=1e-6
        )
    assert made.deployable_student("second") is made.students["second"]
    assert made.deployable_student() is made.best_student()
    with pytest.raises(ValueError, match="no student 'third'.*'first'"):
        made.export(tmp_path / "other.keras", student="third")


@pytest.mark.slow
def test_callbacks_watch_one_student(tmp_path):
    made = cohort()
    fit(
        made,
        epochs=3,
        validation_data=(X, Y),
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.weights.h5",
                monitor="val_first_accuracy",
                mode="max",
                save_best_only=True,
                save_weights_only=True,
            ),
            keras.callbacks.EarlyStopping("val_second_loss", mode="min"),
            keras.callbacks.TensorBoard(tmp_path / "logs"),
            keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        ],
    )
    other = cohort()
    other.load_weights(tmp_path / "best.weights.h5")
    assert list((tmp_path / "logs").rglob("events*"))


@pytest.mark.slow
@pytest.mark.parametrize("update", ["alternating", *nightly("joint")])
def test_saved_and_loaded_it_goes_on_as_if_nothing_had_happened(
    update, tmp_path
):
    taps = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
    students = {"first": convnet(batch_norm=True), "second": convnet(6)}
    made = cohort(
        students,
        {"optimizer": keras.optimizers.Adam(0.01)},
        distillation_losses={
            "soft": kd.losses.SoftTargets(temperature=3.0),
            "hint": kd.losses.Hint(**taps),
        },
        distillation_loss_weights={"soft": 1.0, "hint": 0.5},
        alpha=keras.optimizers.schedules.CosineDecay(0.9, 10),
        update=update,
    )
    fit(made)
    made.save(tmp_path / "cohort.keras")
    loaded = keras.saving.load_model(tmp_path / "cohort.keras")
    assert loaded.update == update
    assert list(loaded.students) == ["first", "second"]
    with pytest.raises(ValueError, match="takes no teacher"):
        kd.load_distiller(tmp_path / "cohort.keras", teacher=convnet())
    expected = fit(made, epochs=2).history
    got = fit(loaded, epochs=2).history
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4)
    for a, b in zip(loaded.weights, made.weights):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_connectors_of_subclassed_students_are_loaded(tmp_path):
    keras.saving.register_keras_serializable("tests")(Subclassed)
    taps = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
    made = cohort(
        {"a": Subclassed(), "b": Subclassed(6)},
        distillation_losses=kd.losses.Hint(**taps),
    )
    fit(made)
    made.save(tmp_path / "cohort.keras")
    loaded = keras.saving.load_model(tmp_path / "cohort.keras")
    assert len(loaded.weights) == len(made.weights)
    expected, got = fit(made).history, fit(loaded).history
    np.testing.assert_allclose(got["loss"], expected["loss"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("update", ["joint", *nightly("alternating")])
def test_several_steps_per_execution_and_xla(update):
    networks = three(batch_norm=True)
    views = kd.views.Consistent(8)  # XLA would not compile its crops.
    results = []
    for settings in (
        {},
        {"steps_per_execution": 3},
        {"jit_compile": True},
    ):
        students = {name: copy_of(s) for name, s in networks.items()}
        made = cohort(students, settings, update=update, views=views)
        history = fit(made, kd.views.indexed(X)).history
        results.append((history, students))
    (expected, plain), *others = results
    for history, students in others:
        for name in expected:
            np.testing.assert_allclose(
                history[name], expected[name], rtol=1e-4, err_msg=name
            )
        for name in networks:
            for a, b in zip(
                plain[name].get_weights(), students[name].get_weights()
            ):
                np.testing.assert_allclose(a, b, atol=1e-4, err_msg=name)


# Bad input.


class Parallel(keras.Model):
    def __init__(self, shared, **kwargs):
        super().__init__(**kwargs)
        self.shared = shared

    def call(self, x):
        return self.shared(x)


def test_cohorts_that_are_none():
    student = convnet(name="one")
    with pytest.raises(ValueError, match="at least two students.*1"):
        kd.MutualDistiller(students=[student])
    with pytest.raises(ValueError, match="at least two students.*0"):
        kd.MutualDistiller(students=[])
    with pytest.raises(TypeError, match="must be a list"):
        kd.MutualDistiller(students=student)
    with pytest.raises(TypeError, match="keras.Models.*'two'"):
        kd.MutualDistiller(students=[student, "two"])
    with pytest.raises(ValueError, match="same object.*'one'"):
        kd.MutualDistiller(students=[student, student])
    with pytest.raises(ValueError, match="same object.*'a' and 'b'"):
        kd.MutualDistiller(students={"a": student, "b": student})
    with pytest.raises(ValueError, match="are called.*'one'.*dict"):
        kd.MutualDistiller(students=[student, copy_of(student)])
    with pytest.raises(ValueError, match="without '/' and ':'.*'a:b'"):
        kd.MutualDistiller(students={"a:b": student, "c": convnet()})
    with pytest.raises(ValueError, match="same classes.*4.*5"):
        kd.MutualDistiller(students=[student, convnet(classes=5)])
    with pytest.raises(ValueError, match="update must be one of"):
        kd.MutualDistiller(students=[student, convnet()], update="both")
    with pytest.raises(ValueError, match="logged as.*'a_student_loss'"):
        kd.MutualDistiller(students={"a": student, "a_student": convnet()})


def test_shared_weights_are_found_early_and_late():
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    networks = []
    for _ in range(2):
        inputs = keras.Input((8, 8, 3))
        x = layers.GlobalAveragePooling2D()(shared(inputs))
        networks.append(keras.Model(inputs, layers.Dense(4)(x)))
    with pytest.raises(ValueError, match="share the weight 'shared/kernel'"):
        kd.MutualDistiller(students=networks)
    inside = keras.Sequential([layers.Flatten(), layers.Dense(4)])
    made = cohort({"a": Parallel(inside), "b": Parallel(inside)})
    with pytest.raises(ValueError, match="'a' and 'b' share"):
        fit(made)


def test_subclassed_students_of_unlike_classes_show_on_data():
    made = cohort({"a": Subclassed(), "b": Subclassed(classes=5)})
    with pytest.raises(ValueError, match="same classes"):
        fit(made)


def test_what_a_cohort_cannot_use():
    students = [convnet(), convnet(6)]
    taps = {"teacher_layer_name": "conv2", "student_layer_name": "conv2"}
    for loss, reason in (
        (kd.losses.IdealJointClassifier(**taps), "trained teacher"),
        (kd.losses.FactorTransfer(**taps), "trained teacher"),
    ):
        with pytest.raises(ValueError, match=f"{reason}.*start untrained"):
            kd.MutualDistiller(students=students, distillation_losses=loss)
    made = kd.MutualDistiller(students=students)
    with pytest.raises(ValueError, match="'agreement' compares with"):
        made.compile(loss=crossentropy(), metrics=[kd.metrics.Agreement()])
    with pytest.raises(ValueError, match="needs loss"):
        made.compile()
    with pytest.raises(ValueError, match="no layer 'act9'"):
        kd.MutualDistiller(
            students=students,
            distillation_losses=kd.losses.Hint(
                teacher_layer_name="act1", student_layer_name="act9"
            ),
        )
    made = cohort()
    with pytest.raises(ValueError, match="Labels must lie in"):
        fit(made, y=Y + 2)


def test_a_peers_padding_teaches_nothing():
    def tagger(mask):
        ids = keras.Input((5,), dtype="int32")
        x = layers.Embedding(6, 4, mask_zero=mask, name="words")(ids)
        return keras.Model(ids, layers.Dense(3)(x))

    students = {"first": tagger(True), "second": tagger(False)}
    made = cohort(
        students, {"metrics": None, "optimizer": keras.optimizers.SGD(0.0)}
    )
    x = np.array([[3, 1, 2, 0, 0], [1, 4, 4, 2, 0]], "int32")

    def taught():
        logs = made.train_on_batch(x, np.zeros((2, 5)), return_dict=True)
        return logs["second_distillation_loss"]

    before = taught()
    words = students["second"].get_layer("words")
    table = words.get_weights()[0]
    table[0] += 1.0
    words.set_weights([table])
    assert taught() == pytest.approx(before, rel=1e-6)
