"""Trainings on N replicas: what each scenario trains, and on what."""

import contextlib
import functools
import json

import keras
import numpy as np
import tensorflow as tf
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd
from keras_distill._training import step as training_step

SCENARIOS = {
    # Batches of 8: 8, 8, 6. With 4 replicas the last is 2, 2, 2, 0.
    "uneven": {"samples": 22},
    # The last batch has 1 sample: all replicas but one are empty.
    "empty": {"samples": 17},
    "weighted": {"samples": 22, "weighted": True, "regularized": True},
    "batch_norm": {"samples": 22, "batch_norm": True},
    "connector_batch_norm": {"samples": 17, "regressor": "conv_bn_relu"},
    "local_batch_norm": {"samples": 17, "batch_norm": True, "local": True},
    "float16": {
        "samples": 22,
        "dtype": "mixed_float16",
        "optimizer": {"learning_rate": 0.05},
    },
    # 9 steps: one is left over.
    "accumulated": {
        "samples": 22,
        "batch_norm": True,
        "optimizer": {"gradient_accumulation_steps": 4},
    },
    "accumulated_with_adam": {
        "samples": 17,
        "optimizer": {
            "class_name": "AdamW",
            "learning_rate": 0.01,
            "gradient_accumulation_steps": 2,
        },
    },
    "accumulated_float16": {
        "samples": 22,
        "dtype": "mixed_float16",
        "optimizer": {"gradient_accumulation_steps": 2, "clipnorm": 0.1},
    },
    # The last replica's gradient is not finite until the scale has come down.
    "overflowing": {
        "samples": 24,
        "dtype": "mixed_float16",
        "weighted": [1, 1, 1, 1, 1, 1, 1, 3000],
        "optimizer": {"clipnorm": 0.1},
    },
    "clipped": {"samples": 17, "optimizer": {"global_clipnorm": 0.1}},
    "averaged": {"samples": 17, "optimizer": {"use_ema": True}},
    "accumulated_averages": {
        "samples": 22,
        "optimizer": {
            "gradient_accumulation_steps": 2,
            "use_ema": True,
            "ema_overwrite_frequency": 3,
        },
    },
    "overwritten": {
        "samples": 17,
        "optimizer": {"use_ema": True, "ema_overwrite_frequency": 4},
    },
    "deployed": {"samples": 17, "batch_norm": True, "deployed": True},
    "stock": {"samples": 22, "stock": True},
    "regularized": {"samples": 17, "regularized": True},
    "cached": {"samples": 17, "cached": True},
    # Worker i of 2 has the i-th half of the samples, and reads their files.
    "cached_parts": {"samples": 22, "cached": True, "parts": 2},
    "views": {"samples": 24, "views": True},
    "compiled": {"samples": 22, "jit_compile": True},
    "many_steps": {"samples": 24, "steps_per_execution": 3},
    # 1 execution of 3 steps, of 2 steps with an uneven and an empty batch.
    "left_over_steps": {
        "samples": 33,
        "steps_per_execution": 3,
        "optimizer": {"learning_rate": 0.05},
    },
    "own_teacher": {"samples": 17, "batch_norm": True, "own_teacher": True},
    "moving_teacher": {"samples": 17, "batch_norm": True, "moving": True},
    "pieces": {
        "samples": 17,
        "batch_norm": True,
        "teacher": {"teacher_batch_size": 2},
    },
    "compiled_pieces": {
        "samples": 22,
        "teacher": {"teacher_batch_size": 2},
        "jit_compile": True,
    },
    # Of this XLA compiles the teacher.
    "compiled_with_batch_norm": {
        "samples": 17,
        "batch_norm": True,
        "jit_compile": True,
    },
    "logits": {
        "samples": 17,
        "losses": "logits",
        "weighted": True,
        "optimizer": {"learning_rate": 0.02},
    },
    "classifiers": {"samples": 17, "losses": "classifiers"},
    "reused": {"samples": 17, "losses": "reused", "batch_norm": True},
    "half_teacher": {
        "samples": 17,
        "batch_norm": True,
        "teacher": {"teacher_dtype": "bfloat16", "teacher_batch_size": 3},
    },
    # Keras divides a mean by the number of replicas, and only a mean.
    "scalar_loss": {"samples": 17, "task": "scalar"},
    "summed_loss": {
        "samples": 17,
        "task": "sum",
        "optimizer": {"learning_rate": 0.01},
    },
    "two_outputs": {
        "samples": 17,
        "network": "two_outputs",
        "losses": "of_one_output",
        "optimizer": {"learning_rate": 0.02},
    },
    # Only some labels of one task.
    "uncertainty": {
        "samples": 17,
        "network": "tasks",
        "losses": "of_tasks",
        "loss_weights": "uncertainty",
        "optimizer": {"learning_rate": 0.02},
    },
    "dynamic": {
        "samples": 17,
        "network": "tasks",
        "losses": "of_tasks",
        "loss_weights": "dynamic",
        "optimizer": {"learning_rate": 0.02},
    },
    # Every way to reduce a task loss, each of an output of its own.
    "task_losses": {
        "samples": 17,
        "network": "four_outputs",
        "losses": "of_one_output",
        "optimizer": {"learning_rate": 0.01},
    },
    # Of unlike length, and one replica gets none of some batches.
    "masked": {"samples": 17, "network": "sequences", "losses": "soft"},
    "masked_and_weighted": {
        "samples": 22,
        "network": "sequences",
        "losses": "soft",
        "weighted": True,
    },
    "masked_and_compiled": {
        "samples": 22,
        "network": "sequences",
        "losses": "soft",
        "jit_compile": True,
    },
    "transformer": {
        "samples": 17,
        "network": "transformer",
        "losses": "transformer",
    },
    "ignored_class": {"samples": 17, "task": "ignored"},
    "mean_of_weights": {"samples": 17, "task": "weights", "weighted": True},
    "several_optimizers": {
        "samples": 17,
        "optimizer": {"class_name": "MultiOptimizer", "clipnorm": 0.2},
    },
    "shampoo": {
        "samples": 17,
        "optimizer": {
            "class_name": "Shampoo",
            "preconditioner_interval": 2,
            "epsilon": 0.01,
        },
    },
    "several_accumulating_optimizers": {
        "samples": 22,
        "optimizer": {
            "class_name": "MultiOptimizer",
            "gradient_accumulation_steps": 2,
        },
    },
    # Each replica takes the proximal step on its copy of the weights.
    "shared_heads": {
        "samples": 22,
        "network": "shared_heads",
        "losses": "soft",
        "optimizer": {"gradient_accumulation_steps": 2},
    },
    "generated_features": {"samples": 17, "losses": "generated_features"},
    "feature_losses": {
        "samples": 17,
        "losses": "feature_losses",
        "batch_norm": True,
    },
}


def losses(scenario):
    taps = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
    if scenario.get("stock"):
        stock = keras.distillation
        return {
            "object": stock.LogitsDistillation(
                temperature=4.0, loss=keras.losses.KLDivergence()
            ),
            "string": stock.FeatureDistillation("mse"),
        }
    if name := scenario.get("losses"):
        return FAMILIES[name](taps)
    if scenario.get("deployed"):
        taps = {"teacher_layer_name": "conv2", "student_layer_name": "conv2"}
        return {
            "soft": kd.losses.SoftTargets(),
            "ideal": kd.losses.IdealJointClassifier(**taps),
        }
    return {
        "soft": kd.losses.SoftTargets(),
        "hint": kd.losses.Hint(
            **taps, regressor=scenario.get("regressor", "auto")
        ),
    }


def optimizer(class_name="SGD", **options):
    if class_name == "MultiOptimizer":
        slow, fast = (
            optimizer(learning_rate=rate, **options) for rate in (0.02, 0.2)
        )
        parts = keras.optimizers.OptimizerMap(slow, {".*head.*": fast})
        return keras.optimizers.MultiOptimizer(parts)
    if class_name == "SGD":
        options = {"learning_rate": 0.2, "momentum": 0.9, **options}
    module = kd if class_name == "Shampoo" else keras
    return getattr(module.optimizers, class_name)(**options)


def feature_losses(taps):
    """Every feature loss that is to give the same on any number of replicas."""
    two = {
        f"{role}_layer_name": ["act1", "conv2"]
        for role in ("teacher", "student")
    }
    return {
        "variational": kd.losses.VariationalInformation(
            **taps, reduction="mean"
        ),
        "selectivity": kd.losses.NeuronSelectivityTransfer(**taps),
        "factor": kd.losses.FactorTransfer(
            **taps, paraphraser_epochs=1, layer_weights=[0.02]
        ),
        "boundary": kd.losses.ActivationBoundary(**taps, layer_weights=[0.001]),
        "overhauled": kd.losses.OverhauledFeature(
            **taps, margin=-0.5, layer_weights=[0.001]
        ),
        "review": kd.losses.KnowledgeReview(**two),
        "channel_wise": kd.losses.ChannelWise(**taps),
        "aligned": kd.losses.LayerAlignedVariationalInformation(
            **two, reduction="mean"
        ),
        "self": kd.losses.SelfAttention(
            student_layer_name=two["student_layer_name"]
        ),
    }


def generated_features(taps):
    """One with masks, whose draws the replicas share."""
    return {
        "masked": kd.losses.MaskedGenerative(**taps, layer_weights=[0.001]),
        "tasks": kd.losses.MultiTaskFeature(
            teacher_layer_name=["act1", "conv2"], student_layer_name="act1"
        ),
    }


def soft_targets(taps):
    return kd.losses.SoftTargets()


def of_one_output(taps):
    return kd.losses.SoftTargets(
        teacher_layer_name="left", student_layer_name="left"
    )


def transformer_losses(taps):
    blocks = {"teacher_layer_name": "block2", "student_layer_name": "block1"}
    attention = {role: f"{name}/attention" for role, name in blocks.items()}
    return {
        "hidden": kd.losses.HiddenStates(**blocks),
        "scores": kd.losses.AttentionProbabilities(**attention),
        "relation": kd.losses.AttentionRelation(**attention),
    }


def logit_losses(taps):
    return {
        "attention": kd.losses.AttentionTransfer(**taps),
        "mse": kd.losses.LogitsMSE(),
        "jensen_shannon": kd.losses.JensenShannon(),
        "skew_kl": kd.losses.SkewKL(),
        "hard": kd.losses.HardLabels(),
        "decoupled": kd.losses.DecoupledKD(),
        "permuted": kd.losses.DarkKnowledgeWithPermutedPredictions(),
    }


def classifier_losses(taps):
    two = {
        f"{role}_layer_name": ["act1", "conv2"]
        for role in ("teacher", "student")
    }
    return {
        "regression": kd.losses.SoftmaxRegression(
            teacher_layer_name="conv2", student_layer_name="conv2"
        ),
        "flow": kd.losses.FlowOfSolutionProcedure(regressor="conv1x1", **two),
    }


def reused_classifier(taps):
    return kd.losses.ReusedClassifier(
        teacher_layer_name="conv2", student_layer_name="conv2"
    )


def of_tasks(taps):
    return {
        "left": kd.losses.SoftTargets(),
        "right": [kd.losses.LogitsMSE(), kd.losses.Hint(**taps)],
    }


FAMILIES = {
    "of_tasks": of_tasks,
    "feature_losses": feature_losses,
    "generated_features": generated_features,
    "logits": logit_losses,
    "classifiers": classifier_losses,
    "reused": reused_classifier,
    "soft": soft_targets,
    "of_one_output": of_one_output,
    "transformer": transformer_losses,
}


def mean_squared_error(y, output):
    """A scalar, of which Keras takes no mean."""
    wanted = keras.ops.one_hot(y, output.shape[-1])
    return keras.ops.mean(keras.ops.square(wanted - output))


def task_loss(scenario):
    if scenario.get("views"):
        return keras.losses.CategoricalCrossentropy(from_logits=True)
    if scenario.get("network") == "two_outputs":
        return {"left": crossentropy(), "right": mean_squared_error}
    if scenario.get("network") == "tasks":
        return {"left": crossentropy(), "right": crossentropy()}
    if scenario.get("network") == "four_outputs":
        reductions = {"left": None, "right": "scalar"}
        reductions |= {"third": "sum", "fourth": "ignored"}
        return {
            output: task_loss({"task": task})
            for output, task in reductions.items()
        }
    return {
        None: crossentropy(),
        "scalar": mean_squared_error,
        "sum": keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="sum"
        ),
        "ignored": keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=1
        ),
        "weights": keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
    }[scenario.get("task")]


def sequences(width=4, **kwargs):
    """A class for every position; 0 is padding."""
    inputs = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(10, width, mask_zero=True)(inputs)
    x = keras.layers.Dense(width, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(4, name="head")(x))


def transformer(width=4, **kwargs):
    """Without dropout, whose masks replicas draw each for itself."""
    return kd.models.transformer_classifier(
        10, 4, length=6, width=width, depth=width // 4, heads=2, dropout=0.0
    )


def two_outputs(width=4, **kwargs):
    trunk = convnet(width)
    left = keras.layers.Dense(4, name="left")(trunk.output)
    right = keras.layers.Dense(4, name="right")(trunk.output)
    return keras.Model(trunk.input, [left, right])


def tasks(width=4, **kwargs):
    network = two_outputs(width)
    return keras.Model(
        network.input, dict(zip(("left", "right"), network.outputs))
    )


def four_outputs(width=4, **kwargs):
    trunk = convnet(width)
    names = "left", "right", "third", "fourth"
    heads = [keras.layers.Dense(4, name=n)(trunk.output) for n in names]
    return keras.Model(trunk.input, heads)


def shared_heads(width=4, **kwargs):
    trunk = convnet(width)
    heads = kd.multitask.Heads(
        {"first": 2, "second": 2}, kd.multitask.FeatureTransformation(0.05)
    )
    logits = heads(trunk.get_layer("pool").output)
    logits = keras.layers.Concatenate()([logits["first"], logits["second"]])
    return keras.Model(trunk.input, logits)


NETWORKS = {
    None: convnet,
    "shared_heads": shared_heads,
    "sequences": sequences,
    "transformer": transformer,
    "two_outputs": two_outputs,
    "tasks": tasks,
    "four_outputs": four_outputs,
}


def samples_for(scenario):
    x, y = data(scenario["samples"])
    if scenario.get("network") in ("sequences", "transformer"):
        labels = np.random.default_rng(0).integers(0, 4, (len(x), 6))
        length = 1 + np.arange(len(x))[:, None] % 6
        x = np.where(np.arange(6) < length, labels + 1, 0).astype("int32")
        y = labels if scenario["network"] == "sequences" else y
    if scenario.get("network") == "two_outputs":
        y = (y, 3 - y)
    if scenario.get("network") == "tasks":
        y = {"left": y, "right": 3 - y}
    if scenario.get("network") == "four_outputs":
        y = (y, 3 - y, (y + 1) % 4, (y + 2) % 4)
    return x, y


def cached(x, y, path, parts, strategy):
    """The data with what a teacher said of it."""
    keras.utils.set_random_seed(3)  # The same teacher in every process.
    cache = kd.TeacherCache.build(
        convnet(8),
        x,
        path + ".cache",
        outputs=kd.teachers.StoredOutputs(layer_names="act1"),
        run=kd.teachers.TeacherRun(batch_size=8, samples_per_shard=8),
        verbose=False,
    )
    if not parts:
        return cache.join(kd.datasets.batches(x, y, 8, indexed=True))
    samples = kd.views.indexed(tf.data.Dataset.from_tensor_slices((x, y)))
    size, share = len(x) // parts, 8 // parts
    if strategy.num_replicas_in_sync == 1:
        # What the workers see together, batch by batch.
        blocks = [
            samples.skip(first).take(min(share, size - first % size))
            for step in range(0, size, share)
            for first in range(step, len(x), size)
        ]
        whole = functools.reduce(tf.data.Dataset.concatenate, blocks)
        return cache.join(whole.batch(8))

    def of_worker(context):
        first = context.input_pipeline_id * size
        batches = samples.skip(first).take(size).batch(share)
        return cache.join(batches, samples=range(first, first + size))

    return strategy.distribute_datasets_from_function(of_worker)


def made(scenario, student, views):
    """The Distiller of a scenario, and its metrics."""
    if scenario.get("own_teacher"):
        distiller = kd.BeYourOwnTeacher(student=student, exits=["act1"])
        return distiller, ["accuracy"]
    teacher = NETWORKS[scenario.get("network")](8)
    if scenario.get("moving"):
        teacher = kd.MovingAverageTeacher(student, momentum=0.7)
    distiller = kd.Distiller(
        student=student,
        teacher=None if scenario.get("cached") else teacher,
        distillation_losses=losses(scenario),
        alpha=0.5,
        views=views,
        **scenario.get("teacher", {}),
    )
    if scenario.get("cached"):
        return distiller, ["accuracy"]
    if scenario.get("network") in ("two_outputs", "tasks"):
        return distiller, {"left": ["accuracy"], "right": ["accuracy"]}
    if scenario.get("network") == "four_outputs":
        return distiller, None
    return distiller, ["accuracy", kd.metrics.Agreement()]


@contextlib.contextmanager
def counted_traces():
    traces, step = [], training_step.train_step

    def train_step(distiller, data):
        traces.append(distiller)
        return step(distiller, data)

    training_step.train_step = train_step
    try:
        yield traces
    finally:
        training_step.train_step = step


def train(strategy, scenario, path, callbacks=None):
    """Trains and evaluates, and writes weights, logs and predictions."""
    scenario = SCENARIOS[scenario]
    x, y = samples_for(scenario)
    arrays = (x, y)
    if weights := scenario.get("weighted"):
        if weights is True:
            weights = np.linspace(0, 2, len(x))
        weights = np.resize(weights, len(x)).astype("float32")
        if scenario.get("network") == "sequences":
            weights = np.repeat(weights[:, None], 6, axis=1)
        arrays = (x, y, weights)
    if scenario.get("network") == "tasks":
        labelled = np.float32(np.arange(len(x)) % 3 > 0)
        arrays = (x, y, {"left": np.ones_like(labelled), "right": labelled})
    dataset = tf.data.Dataset.from_tensor_slices(arrays).batch(8)
    if scenario.get("cached"):
        dataset = cached(x, y, path, scenario.get("parts"), strategy)
    views = None
    if scenario.get("views"):
        views = kd.views.FunctionMatching(
            x.shape[1:3],
            mixup=kd.views.Mixup(num_classes=4, group_size=4),
            seed=1,
        )
        samples = tf.data.Dataset.from_tensor_slices((x, y))
        dataset = kd.views.grouped_batches(
            samples, 8, group_size=4, shuffle_buffer_size=24, seed=0
        )
    keras.utils.set_random_seed(0)
    with strategy.scope():
        student = NETWORKS[scenario.get("network")](
            batch_norm=scenario.get("batch_norm", False),
            synchronized=not scenario.get("local", False),
            dtype=scenario.get("dtype"),
        )
        if scenario.get("regularized"):
            kernel = student.get_layer("head").kernel
            kernel.regularizer = keras.regularizers.L2(0.1)
            assert student.losses
        distiller, metrics = made(scenario, student, views)
        distiller.compile(
            optimizer(**scenario.get("optimizer", {})),
            task_loss(scenario),
            steps_per_execution=scenario.get("steps_per_execution", 1),
            jit_compile=scenario.get("jit_compile", "auto"),
            metrics=metrics,
            loss_weights=scenario.get("loss_weights"),
        )
    with counted_traces() as traces:
        history = distiller.fit(
            dataset,
            validation_data=dataset,
            validation_freq=3,
            epochs=3,
            verbose=0,
            callbacks=callbacks,
        ).history
    # The step is traced once for each replica of this process.
    many = strategy.num_replicas_in_sync > 1
    here = len(strategy.extended.worker_devices) if many else 1
    assert len(traces) == here, len(traces)
    predicted = distiller.predict(dataset, verbose=0)
    if isinstance(predicted, dict):
        predicted = list(predicted.values())
    if isinstance(predicted, list):
        predicted = np.stack(predicted)
    arrays = {f"w{i}": w for i, w in enumerate(distiller.get_weights())}
    np.savez(
        path,
        **arrays,
        predicted=predicted,
        history=json.dumps(
            {k: list(map(float, v)) for k, v in history.items()}
        ),
    )
