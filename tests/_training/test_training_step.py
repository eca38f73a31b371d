"""What the graph of a training step holds, and how often it is traced."""

import keras
import pytest
import tensorflow as tf
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

# Operations that leave the graph for Python, or print.
HOST = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "Print", "PrintV2"}
BATCH = 8


class Counting(kd.losses.LogitsMSE):
    """Counts how often it is traced, and with what batch size."""

    batches = ()

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        self.batches = (*self.batches, student_outputs.shape[0])
        return super().compute_loss(teacher_outputs, student_outputs, **kwargs)


class LeavesTheGraph(kd.losses.LogitsMSE):
    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        loss = super().compute_loss(teacher_outputs, student_outputs, **kwargs)
        return loss + 0.0 * tf.numpy_function(lambda x: x, [loss], tf.float32)


def compiled(model):
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        crossentropy(),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def hint(**kwargs):
    return kd.losses.Hint(
        teacher_layer_name="conv2", student_layer_name="conv1", **kwargs
    )


def distiller(*losses, student=None, teacher=None, **kwargs):
    return compiled(
        kd.Distiller(
            student=student or convnet(batch_norm=True),
            teacher=teacher or convnet(batch_norm=True),
            distillation_losses=list(losses),
            **kwargs,
        )
    )


def batches(samples, **kwargs):
    dataset = tf.data.Dataset.from_tensor_slices(data(samples))
    return dataset.batch(BATCH, **kwargs)


# One graph serves the full batch and the uneven last one, in both fits.


@pytest.mark.slow
@pytest.mark.parametrize("kind", ("dataset", "arrays", "subclassed"))
def test_uneven_batches_and_a_second_fit_are_not_traced_again(kind):
    networks = {}
    if kind == "subclassed":
        networks = {"student": Subclassed(), "teacher": Subclassed()}
        for network in networks.values():
            network(data(1)[0])
    loss = Counting()
    model = distiller(loss, **networks)
    for samples in (20, 13):
        if kind == "arrays":
            model.fit(*data(samples), batch_size=BATCH, epochs=2, verbose=0)
        else:
            model.fit(
                batches(samples),
                validation_data=batches(samples),
                epochs=2,
                verbose=0,
            )
    assert loss.batches == (None,)


@pytest.mark.slow
def test_another_shape_is_one_trace_more():
    loss = Counting()
    model = distiller(loss)
    for _ in range(2):
        model.fit(batches(16, drop_remainder=True), verbose=0)
    assert loss.batches == (BATCH,)
    for samples in (20, 13):
        model.fit(batches(samples), verbose=0)
    assert loss.batches == (BATCH, None)


@pytest.mark.slow
def test_students_of_a_cohort_are_traced_once():
    traced = []

    @keras.saving.register_keras_serializable(package="tests")
    class Noted(Counting):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            traced.append(student_outputs.shape[0])
            return super().compute_loss(
                teacher_outputs, student_outputs, **kwargs
            )

    students = [convnet(name="first"), convnet(8, name="second")]
    model = compiled(
        kd.MutualDistiller(students=students, distillation_losses=Noted())
    )
    for samples in (20, 13):
        model.fit(batches(samples), verbose=0)
    assert traced == [None, None]


@pytest.mark.slow
@pytest.mark.parametrize("run_eagerly", (False, True))
def test_the_teacher_runs_in_a_graph_on_the_first_batch_too(run_eagerly):
    """Eagerly, a Functional model holds the outputs of all its layers."""

    class Noting(keras.layers.Layer):
        modes = ()

        def call(self, x):
            if tf.is_tensor(x) and not isinstance(x, keras.KerasTensor):
                self.modes = (*self.modes, tf.executing_eagerly())
            return x

    network = convnet()
    noting = Noting()
    teacher = keras.Model(network.input, noting(network.output))
    model = distiller(kd.losses.SoftTargets(), teacher=teacher)
    model.run_eagerly = run_eagerly
    noting.modes = ()
    model.fit(batches(BATCH), verbose=0)
    # Once for the checks of the first batch, once for the step.
    assert noting.modes == (run_eagerly, run_eagerly)


# The graph of a step.


def operations(model, batch):
    """Every operation of the step's graph: a list of types."""
    step = tf.function(model.train_step, autograph=False)
    graph = step.get_concrete_function(batch).graph.as_graph_def()
    nodes = list(graph.node)
    for function in graph.library.function:
        nodes += function.node_def
    return [node.op for node in nodes]


@pytest.mark.slow
def test_the_step_does_not_leave_the_graph():
    x, y = data(2 * BATCH)
    contrastive = kd.losses.ContrastiveRepresentation(
        teacher_layer_name="pool",
        student_layer_name="pool",
        sample_count=len(x),
        negatives=4,
    )
    model = distiller(
        kd.losses.SoftTargets(),
        hint(),
        contrastive,
        views=kd.views.FunctionMatching(
            8, mixup=kd.views.Mixup(num_classes=4), seed=0
        ),
    )
    model.compile(
        "adam",
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", kd.metrics.Agreement()],
        jit_compile=False,
    )
    x = kd.views.indexed(x)
    model.fit(x, y, batch_size=2 * BATCH, verbose=0)
    found = operations(model, (keras.tree.map_structure(tf.constant, x), y))
    assert not HOST & set(found)


@pytest.mark.slow
def test_a_loss_that_leaves_the_graph_is_seen():
    model = distiller(LeavesTheGraph())
    model.fit(batches(BATCH), verbose=0)
    assert HOST & set(operations(model, data(BATCH)))


@pytest.mark.slow
def test_logs_are_one_update_whatever_is_logged():
    def updates(model):
        model.fit(batches(BATCH), verbose=0)
        found = operations(model, data(BATCH))
        return sum(op.startswith("Assign") for op in found)

    plain = updates(compiled(convnet(batch_norm=True)))
    # Keras's tracker of the loss has two variables, the logs have one; and
    # batch statistics move once, not once per loss.
    losses = [kd.losses.SoftTargets(), kd.losses.LogitsMSE()]
    taps = {"teacher_layer_name": "pool", "student_layer_name": "pool"}
    losses += [kd.losses.LogitsMSE(name="pool", **taps)]
    assert updates(distiller(*losses)) == plain - 1
