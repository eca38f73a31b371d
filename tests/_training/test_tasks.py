"""Students of several tasks: losses, labels and weights for each."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import crossentropy

import keras_distill as kd

layers = keras.layers
rng = np.random.default_rng(0)
X = rng.normal(size=(8, 5)).astype("float32")
Y = {"a": rng.integers(0, 3, 8), "b": rng.integers(0, 2, 8)}
ALPHA = 0.25


def network(width=4, **heads):
    x = keras.Input((5,))
    h = layers.Dense(width, activation="tanh", name="trunk")(x)
    heads = heads or {"a": 3, "b": 2}
    return keras.Model(
        x, {k: layers.Dense(n, name=f"{k}_head")(h) for k, n in heads.items()}
    )


def soft(**options):
    return kd.losses.SoftTargets(**options)


BOTH = {"a": soft, "b": soft}


def distiller(
    losses=BOTH,
    loss="both",
    teacher=None,
    student=None,
    weights=None,
    run_eagerly=True,
    rate=0.0,
    **options,
):
    made = kd.Distiller(
        student=student or network(),
        teacher=teacher or network(8),
        distillation_losses={
            k: [m() for m in make] if isinstance(make, list) else make()
            for k, make in losses.items()
        },
        distillation_loss_weights=weights,
        alpha=ALPHA,
    )
    if loss == "both":
        loss = {"a": crossentropy(), "b": crossentropy()}
    made.compile(
        keras.optimizers.SGD(rate), loss, run_eagerly=run_eagerly, **options
    )
    return made


def log_softmax(z):
    z = np.float64(z)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def by_hand(made, weights=None):
    """`L_S,t` and `L_D,t` of both tasks, from the definitions."""
    student, teacher = made.student(X), made._networks().teacher(X)
    of_labels, of_teacher = {}, {}
    for task in "ab":
        q, p = log_softmax(student[task]), log_softmax(teacher[task])
        values = -q[np.arange(8), Y[task]]
        of_labels[task] = np.mean(values * (weights or {}).get(task, 1.0))
        of_teacher[task] = np.mean(np.sum(np.exp(p) * (p - q), -1))
    return of_labels, of_teacher


def step(made, y=Y, **options):
    logs = made.fit(
        X, y, batch_size=8, shuffle=False, verbose=0, **options
    ).history
    return {name: values[0] for name, values in logs.items()}


def one_output(units):
    x = keras.Input((5,))
    return keras.Model(x, layers.Dense(units)(x))


@pytest.mark.parametrize("named", (False, True))
def test_the_objective_by_hand(named):
    teachers = {"a": one_output(3), "b": one_output(2)}
    made = distiller(
        teacher=teachers if named else None,
        weights={"a": 3.0, "b": 1.0},
        loss_weights={"a": 2.0, "b": 0.5},
    )
    of_labels, of_teacher = by_hand(made)
    a = ALPHA * 3.0 * of_teacher["a"] + (1 - ALPHA) * of_labels["a"]
    b = ALPHA * of_teacher["b"] + (1 - ALPHA) * of_labels["b"]
    expected = {
        "a_loss": of_labels["a"],
        "b_loss": of_labels["b"],
        "a_soft_targets_loss": of_teacher["a"],
        "b_soft_targets_loss": of_teacher["b"],
        "a_objective": a,
        "b_objective": b,
        "student_loss": 2.0 * of_labels["a"] + 0.5 * of_labels["b"],
        "distillation_loss": 3.0 * of_teacher["a"] + of_teacher["b"],
        "loss": 2.0 * a + 0.5 * b,
    }
    logs = step(made)
    assert {k: logs[k] for k in expected} == pytest.approx(expected, rel=1e-5)
    student, teacher = made.student(X), made._networks().teacher(X)
    for task in "ab":
        same = np.argmax(student[task], -1) == np.argmax(teacher[task], -1)
        assert logs[f"{task}_agreement"] == pytest.approx(same.mean())


@pytest.mark.parametrize("labels", ("None", "no loss", "tf.data"))
def test_a_task_without_labels_is_taught_by_its_teacher_alone(labels):
    loss = {"a": crossentropy()} if labels == "no loss" else "both"
    made = distiller(
        loss=loss,
        metrics={"a": ["accuracy"], "b": ["accuracy"]},
        run_eagerly=labels != "tf.data",
    )
    of_labels, of_teacher = by_hand(made)
    if labels == "tf.data":
        data = tf.data.Dataset.from_tensor_slices((X, Y["a"]))
        data = data.map(lambda x, y: (x, {"a": y, "b": None})).batch(8)
        logs = made.fit(data, verbose=0).history
        logs = {name: values[0] for name, values in logs.items()}
    else:
        logs = step(made, {"a": Y["a"], "b": None})
    a = ALPHA * of_teacher["a"] + (1 - ALPHA) * of_labels["a"]
    assert logs["b_objective"] == pytest.approx(of_teacher["b"], rel=1e-5)
    assert logs["loss"] == pytest.approx(a + of_teacher["b"], rel=1e-5)
    assert "a_accuracy" in logs and "b_loss" not in logs
    assert "b_accuracy" not in logs
    # Data with labels for both.
    results = made.evaluate(X, Y, verbose=0, return_dict=True)
    assert {"a_accuracy", "b_accuracy"} <= set(results)


def test_a_task_without_teacher_learns_from_its_labels_alone():
    made = distiller({"a": soft})
    of_labels, of_teacher = by_hand(made)
    a = ALPHA * of_teacher["a"] + (1 - ALPHA) * of_labels["a"]
    assert step(made)["loss"] == pytest.approx(a + of_labels["b"], rel=1e-5)


def test_weights_of_a_task_weigh_its_labels_and_one_weight_weighs_all():
    made = distiller()
    mask = np.float32([1, 0, 0, 1, 1, 0, 0, 0])
    of_labels, of_teacher = by_hand(made, {"b": mask})
    logs = step(made, sample_weight={"b": mask})
    expected = sum(
        ALPHA * of_teacher[t] + (1 - ALPHA) * of_labels[t] for t in "ab"
    )
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["b_soft_targets_loss"] == pytest.approx(of_teacher["b"])
    logs = step(made, sample_weight=np.zeros(8))
    assert logs["loss"] == logs["b_soft_targets_loss"] == 0.0
    # The kind of weights is that of each call.
    logs = made.train_on_batch(X, Y, {"b": mask}, return_dict=True)
    assert logs["b_soft_targets_loss"] == pytest.approx(of_teacher["b"])


def test_labels_that_leave_a_task_out_are_as_none():
    mask = np.float32([1, 0, 0, 1, 1, 0, 0, 0])
    for weight in (None, mask, {"a": mask}):
        made = distiller(loss={"a": crossentropy()})
        logs = step(made, {"a": Y["a"]}, sample_weight=weight)
        given = step(made, {"a": Y["a"], "b": None}, sample_weight=weight)
        assert logs == given and "b_objective" in logs


def test_validation_data_may_leave_out_weights_of_a_task():
    mask = np.float32([1, 0, 0, 1, 1, 0, 0, 0])
    made = distiller()
    logs = step(made, validation_data=(X, Y, {"b": mask}))
    of_labels, _ = by_hand(made, {"b": mask})
    assert logs["val_loss"] == pytest.approx(sum(of_labels.values()), rel=1e-5)


def test_losses_that_read_labels_leave_out_those_that_are_missing():
    mask = np.float32([1, 0, 0, 1, 1, 0, 0, 0])
    made = distiller({"a": kd.losses.DecoupledKD, "b": soft})
    logs = step(made, sample_weight={"a": mask})
    other = {**Y, "a": np.where(mask, Y["a"], (Y["a"] + 1) % 3)}
    assert step(made, other, sample_weight={"a": mask}) == logs


def test_losses_of_no_task_have_the_share_alpha():
    def hint():
        return kd.losses.Hint(
            teacher_layer_name="trunk", student_layer_name="trunk"
        )

    taught = distiller(
        {**BOTH, "trunk": hint}, weights={"a": 1, "b": 1, "trunk": 0.5}
    )
    logs = step(taught)
    tasks = logs["a_objective"] + logs["b_objective"]
    expected = tasks + ALPHA * 0.5 * logs["trunk_loss"]
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    # No loss is by task: alpha is the share of all.
    alone = distiller({"trunk": hint}, loss_weights={"a": 2.0})
    logs = step(alone)
    student_loss = 2.0 * logs["a_loss"] + logs["b_loss"]
    expected = ALPHA * logs["trunk_loss"] + (1 - ALPHA) * student_loss
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_list_of_losses_and_their_weights_are_saved(tmp_path):
    losses = {"a": [soft, kd.losses.LogitsMSE], "b": soft}
    made = distiller(losses, weights={"a": [1.0, 0.1], "b": 2.0})
    logs = step(made)
    assert {"a_soft_targets_loss", "a_logits_mse_loss"} <= set(logs)
    made.save(tmp_path / "made.keras")
    loaded = kd.load_distiller(
        tmp_path / "made.keras", made._networks().teacher
    )
    assert loaded.distillation_loss_weights == made.distillation_loss_weights
    assert step(loaded) == pytest.approx(logs)


def test_teachers_of_one_output_and_agreement_in_evaluation():
    x = keras.Input((5,))
    teacher = keras.Model(x, layers.Dense(3, name="classes")(x))
    made = distiller(
        {"a": soft},
        teacher=teacher,
        metrics={"a": ["accuracy", kd.metrics.Agreement()]},
    )
    same = np.argmax(made.student(X)["a"], -1) == np.argmax(teacher(X), -1)
    results = made.evaluate(X, Y, verbose=0, return_dict=True)
    assert results["a_agreement"] == pytest.approx(same.mean())
    assert step(made)["a_agreement"] == pytest.approx(same.mean())


class Heads(layers.Layer):
    """One layer gives all outputs: their names are no names of layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b = layers.Dense(3), layers.Dense(2)

    def call(self, x):
        return {"b": self.b(x), "a": self.a(x)}


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.heads = Heads()

    def call(self, x):
        return self.heads(x)


@pytest.mark.parametrize("subclassed", (False, True))
def test_outputs_that_are_no_layers(subclassed):
    student, losses = Subclassed(), {"a": [soft], "b": [soft]}
    if not subclassed:
        x = keras.Input((5,))
        student, losses = keras.Model(x, Heads()(x)), BOTH
    made = distiller(
        losses, student=student, metrics={"a": ["accuracy"], "b": ["accuracy"]}
    )
    logs = step(made)
    of_labels, of_teacher = by_hand(made)
    expected = sum(
        ALPHA * of_teacher[t] + (1 - ALPHA) * of_labels[t] for t in "ab"
    )
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert {"a_accuracy", "b_accuracy"} <= set(logs)


def test_a_task_of_a_subclassed_student_with_labels_alone():
    made = distiller({"a": [soft]}, student=Subclassed())
    logs = step(made)
    of_labels, of_teacher = by_hand(made)
    expected = ALPHA * of_teacher["a"] + (1 - ALPHA) * of_labels["a"]
    assert logs["loss"] == pytest.approx(expected + of_labels["b"], rel=1e-5)


def test_a_softmax_at_the_end_of_a_task():
    x = keras.Input((5,))
    outputs = {
        "a": layers.Dense(3, "softmax", name="first")(x),
        "b": layers.Dense(2, name="second")(x),
    }
    with pytest.raises(ValueError, match="student.*ends in a softmax"):
        distiller(student=keras.Model(x, outputs))


@pytest.mark.parametrize(
    "y, weight, message",
    [
        ({"a": Y["a"]}, None, "no 'b'.*y={'b': None}"),
        ({**Y, "c": Y["a"]}, None, r"keys \['c'\].*outputs are \['a', 'b'\]"),
        (Y["a"], None, "a dict with these keys.*one array"),
        ({**Y, "b": Y["b"] + 2}, None, r"y\['b'\]: Labels must lie in \[0, 1"),
        (Y, {"b": np.ones((8, 3))}, r"sample_weight\['b'\] must.*\(8, 3\)"),
        (Y, {"c": np.ones(8)}, r"sample_weight has the keys \['c'\]"),
        (Y, {"b": np.ones(4)}, r"sample_weight\['b'\] has 4 samples, and x"),
        ({"a": Y["a"][:4], "b": None}, None, r"y\['a'\] has 4 samples, and x"),
    ],
)
def test_labels_and_weights_that_do_not_fit(y, weight, message):
    with pytest.raises(ValueError, match=message):
        step(distiller(), y, sample_weight=weight)
    if weight:
        with pytest.raises(ValueError, match=message):
            distiller().evaluate(X, y, sample_weight=weight, verbose=0)


def test_a_task_without_teacher_and_labels():
    with pytest.raises(ValueError, match="'b' has no teacher and no labels"):
        distiller({"a": soft}, loss={"a": crossentropy()})
    with pytest.raises(ValueError, match="'b' are None.*no teacher"):
        step(distiller({"a": soft}), {"a": Y["a"], "b": None})
    untrained = distiller({"a": soft}, loss={"a": crossentropy(), "b": None})
    assert "b_objective" not in step(untrained, {"a": Y["a"]})


def test_a_student_with_a_list_of_outputs():
    student = network()
    student = keras.Model(student.input, list(student.output.values()))
    for teacher in (network(8), student):
        with pytest.raises(ValueError, match="output is a dict.*not a list"):
            distiller(
                teacher=teacher, student=keras.models.clone_model(student)
            )


def tapped(layer):
    return lambda: kd.losses.Hint(
        teacher_layer_name=layer, student_layer_name=layer
    )


@pytest.mark.parametrize("nested", (False, True))
def test_losses_of_no_task_that_leave_a_task_untrained(nested):
    def student():
        if not nested:
            return network()
        x = keras.Input((5,))
        outputs = network()(x)
        outputs["b"] = layers.Activation("linear")(outputs["b"])
        return keras.Model(x, outputs)

    loss = {"a": crossentropy()}
    with pytest.raises(ValueError, match="'b' has no teacher and no labels"):
        distiller({"h": tapped("trunk")}, loss=loss, student=student())
    with pytest.raises(ValueError, match="'b' are None.*no distillation"):
        made = distiller({"h": tapped("trunk")}, student=student())
        step(made, {"a": Y["a"], "b": None})
    trained = distiller({"h": tapped("b_head")}, loss=loss, student=student())
    assert "h_loss" in step(trained, {"a": Y["a"]})


@pytest.mark.parametrize(
    "options, message",
    [
        ({"losses": {"c": [soft]}}, "'c'.* is a list.*outputs are"),
        ({"losses": {"a": []}}, "must hold at least one"),
        ({"loss": {"c": "mse"}}, r"loss=.*keys \['c'\]"),
        ({"metrics": {"c": ["mse"]}}, r"metrics=.*keys \['c'\]"),
        ({"loss_weights": {"c": 1.0}}, r"loss_weights=.*keys \['c'\]"),
        ({"loss_weights": {"a": -1.0}}, r"loss_weights\['a'\]"),
        ({"loss_weights": "equal"}, "loss_weights.*'uncertainty'"),
        ({"weights": {"a": [1.0, 2.0], "b": 1.0}}, "one number, or one per"),
        ({"teacher": network(8, a=3, c=2)}, r"task 'b', but the teacher has"),
        ({"teacher": network(8, a=4, b=2)}, "teacher has 4 classes"),
    ],
)
def test_arguments_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        distiller(**options)


def test_loss_weights_by_name_need_tasks():
    x = keras.Input((5,))
    student = keras.Model(x, layers.Dense(3)(x))
    made = kd.Distiller(student=student, distillation_losses=soft())
    with pytest.raises(ValueError, match="has one output"):
        made.compile(loss=crossentropy(), loss_weights="uncertainty")


def test_a_loss_of_probabilities_is_warned_of():
    loss = {"a": "sparse_categorical_crossentropy", "b": crossentropy()}
    with pytest.warns(UserWarning, match="gives logits for 'a'"):
        distiller(loss=loss)
