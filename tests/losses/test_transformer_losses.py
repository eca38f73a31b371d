"""Hidden states, attention and its relations: formulas, padding, training."""

import keras
import numpy as np
import pytest
from networks import crossentropy

import keras_distill as kd
from keras_distill import losses

NAMES = {"teacher_layer_name": "t", "student_layer_name": "s"}
PRESENT = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], "float32")


def features(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def mean_where(values, present):
    """The mean over the positions that are there."""
    return (values * present).sum() / (present + 0 * values).sum()


def weight_of(present):
    """What `kd.Distiller` makes of a mask: the mean is over what counts."""
    return present * present.size / present.sum()


# Hidden states.


@pytest.mark.parametrize("shape", [(2, 4), (2,)])
def test_hidden_states_by_hand(shape):
    teacher, student = features(*shape, 5), features(*shape, 3, seed=1)
    loss = losses.HiddenStates(dtype="float64", **NAMES)
    loss.build(teacher.shape, student.shape)
    (kernel,) = loss.trainable_variables
    values = np.mean((student @ kernel.numpy() - teacher) ** 2, axis=-1)
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student), values.mean()
    )
    weight = [2.0, 0.5]
    expected = np.mean(values.reshape(2, -1).mean(axis=1) * weight)
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student, sample_weight=weight), expected
    )
    if len(shape) == 2:
        value = loss.compute_loss(
            teacher, student, sample_weight=weight_of(PRESENT)
        )
        np.testing.assert_allclose(value, mean_where(values, PRESENT))


def test_one_map_or_one_for_each_pair():
    names = {
        "teacher_layer_name": ["a", "b"],
        "student_layer_name": ["c", "d"],
    }
    teacher = {"a": features(2, 3, 5), "b": features(2, 3, 5, seed=1)}
    student = {"c": features(2, 3, 4, seed=2), "d": features(2, 3, 4, seed=3)}
    shapes = [{k: x.shape for k, x in t.items()} for t in (teacher, student)]
    for projection, maps in (("shared", 1), ("separate", 2)):
        loss = losses.HiddenStates(
            projection=projection,
            layer_weights=[1.0, 3.0],
            dtype="float64",
            **names,
        )
        loss.build(*shapes)
        kernels = [v.numpy() for v in loss.trainable_variables]
        assert len(kernels) == maps
        expected = sum(
            weight * np.mean((student[s] @ kernel - teacher[t]) ** 2)
            for weight, t, s, kernel in zip(
                (1, 3), "ab", "cd", kernels * (3 - maps)
            )
        )
        np.testing.assert_allclose(
            loss.compute_loss(teacher, student), expected
        )
    shapes[1]["d"] = (2, 3, 6)
    with pytest.raises(ValueError, match='projection="separate"'):
        losses.HiddenStates(**names).build(*shapes)
    losses.HiddenStates(projection="separate", **names).build(*shapes)


@pytest.mark.parametrize("loss", ["HiddenStates", "AttentionProbabilities"])
@pytest.mark.parametrize(
    "mapping, teachers, students, chosen",
    [
        ("uniform", 4, 2, [2, 4]),
        ("uniform", 6, 4, [1, 3, 4, 6]),
        ("last", 4, 2, [3, 4]),
        ("last", 3, 3, [1, 2, 3]),
    ],
)
def test_which_layers_teach(loss, mapping, teachers, students, chosen):
    suffix = "/scores" if loss == "AttentionProbabilities" else ""
    made = getattr(losses, loss)(
        teacher_layer_name=[f"b{k}" for k in range(1, teachers + 1)],
        student_layer_name=[f"s{k}" for k in range(1, students + 1)],
        layer_mapping=mapping,
    )
    assert made.teacher_layer_name == [f"b{k}{suffix}" for k in chosen]
    assert len(made.student_layer_name) == students
    again = type(made).from_config(made.get_config())
    assert again.teacher_layer_name == made.teacher_layer_name


def test_embeddings_are_layer_0():
    for mapping, chosen in (("uniform", "ebd"), ("last", "ecd")):
        loss = losses.HiddenStates(
            teacher_layer_name=list("eabcd"),
            student_layer_name=list("exy"),
            layer_mapping=mapping,
            embeddings=True,
        )
        assert loss.teacher_layer_name == list(chosen)
    with pytest.raises(ValueError, match="layer of the student needs one"):
        losses.HiddenStates(
            teacher_layer_name=list("ab"), student_layer_name=list("xyz")
        )


# Attention.


def pairs(present, causal=False):
    mask = present[:, None, :, None] * present[:, None, None, :]
    return mask * np.tri(present.shape[1]) if causal else mask


@pytest.mark.parametrize("causal", [False, True])
def test_attention_by_hand(causal):
    teacher, student = features(2, 3, 4, 4), features(2, 3, 4, 4, seed=1)
    loss = losses.AttentionProbabilities(**NAMES)
    assert loss.teacher_layer_name == "t/scores"
    squares = (student - teacher) ** 2
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student), squares.mean()
    )
    mask = pairs(PRESENT, causal)
    teacher = np.where(mask > 0, teacher, 1e30)  # What attends to nothing.
    value = loss.compute_loss(teacher, student, sample_weight=weight_of(mask))
    np.testing.assert_allclose(value, mean_where(squares, mask))


def test_weights_of_positions_are_those_of_queries():
    teacher, student = features(2, 3, 4, 4), features(2, 3, 4, 4, seed=1)
    loss = losses.AttentionProbabilities(**NAMES)
    squares = (student - teacher) ** 2
    value = loss.compute_loss(teacher, student, sample_weight=2.0 * PRESENT)
    np.testing.assert_allclose(value, np.mean(2 * squares * pairs(PRESENT)))
    value = loss.compute_loss(teacher, student, sample_weight=[1.0, 3.0])
    np.testing.assert_allclose(
        value, np.mean(squares.mean(axis=(1, 2, 3)) * [1.0, 3.0])
    )


def test_names_inside_of_attention_layers():
    names = {
        "teacher_layer_name": ["t", "u#1"],
        "student_layer_name": list("sv"),
    }
    loss = losses.AttentionProbabilities(form="probabilities", **names)
    assert loss.teacher_layer_name == ["t/probabilities", "u/probabilities#1"]
    loss = losses.AttentionRelation(projections=["q"], **names)
    assert loss.teacher_layer_name == ["t/q", "u/q#1"]
    assert loss.get_config()["projections"] is None
    for made in (losses.AttentionProbabilities, losses.AttentionRelation):
        with pytest.raises(ValueError, match="student_layer_name must be"):
            made(teacher_layer_name="t", student_layer_name=None)


# Relations.


def relation(x, heads, present):
    """`(batch, heads, positions, positions)`, of positions that are there."""
    x = x.reshape(*x.shape[:2], heads, -1)
    products = np.einsum("bthd,bshd->bhts", x, x) / np.sqrt(x.shape[-1])
    return softmax(np.where(present[:, None, None, :] > 0, products, -np.inf))


def relations(teacher, student, heads, present):
    p, q = (relation(x, heads, present) for x in (teacher, student))
    some = p > 0
    logs = np.log(np.where(some, p, 1.0)) - np.log(np.where(some, q, 1.0))
    return np.sum(p * logs, axis=-1).mean(axis=1)


@pytest.mark.parametrize("heads", [None, 1, 4])
def test_relations_by_hand(heads):
    teacher = {
        f"t/{p}": features(2, 4, 2, 6, seed=k) for k, p in enumerate("qkv")
    }
    student = {
        f"s/{p}": features(2, 4, 4, 2, seed=k) for k, p in enumerate("kqv")
    }
    loss = losses.AttentionRelation(
        heads=heads,
        projections=list("qkv"),
        layer_weights=[1.0, 2.0, 3.0],
        **NAMES,
    )
    # The teacher's own number of heads, if none is given, not that of another
    # teacher before.
    cut = heads or 2
    for shape in ((2, 4, 4, 6), (2, 4, 2, 6)):
        loss.build(
            dict.fromkeys(teacher, shape), dict.fromkeys(student, (2, 4, 4, 2))
        )
    for present, weight in (
        (np.ones((2, 4)), None),
        (PRESENT, weight_of(PRESENT)),
    ):
        expected = sum(
            k
            * mean_where(
                relations(teacher[f"t/{p}"], student[f"s/{p}"], cut, present),
                present,
            )
            for k, p in zip((1, 2, 3), "qkv")
        )
        value = loss.compute_loss(teacher, student, sample_weight=weight)
        np.testing.assert_allclose(value, expected)


@pytest.mark.parametrize(
    "heads, message",
    [
        (
            5,
            r"heads=5.*24 and the student's 16, and 5 does not.*\[1, 2, 4, 8\]",
        ),
        (None, r"heads=None.*and 3 does not"),
    ],
)
def test_heads_that_do_not_divide_the_widths(heads, message):
    loss = losses.AttentionRelation(heads=heads, projections=["q"], **NAMES)
    with pytest.raises(ValueError, match=message):
        loss.build((None, 4, 3, 8), (None, 4, 2, 8))


# In training.

IDS = np.array([[3, 1, 4, 2, 0, 0], [5, 9, 0, 0, 0, 0]])
LABELS = np.array([0, 2])


def transformer(depth, width, heads, **options):
    keras.utils.set_random_seed(depth)
    return kd.models.transformer_classifier(
        20, 3, length=6, depth=depth, width=width, heads=heads, **options
    )


def logs(student, teacher, made, x=IDS):
    """The losses of one step that changes nothing."""
    made = made if isinstance(made, dict) else {"d": made}
    distiller = kd.Distiller(
        student=student, teacher=teacher, distillation_losses=made
    )
    distiller.compile(keras.optimizers.SGD(0.0), crossentropy())
    history = distiller.fit(x, LABELS, verbose=0).history
    values = [history[f"{name}_loss"][0] for name in made]
    return values if len(values) > 1 else values[0]


@pytest.mark.slow
def test_padding_is_in_no_term():
    # Without dropout a step sees what the taps see.
    teacher = transformer(2, 8, 2, dropout=0.0)
    student = transformer(1, 4, 2, dropout=0.0)
    found = kd.taps.suggest(teacher, student)
    assert found.teacher_layer_names == ["embeddings", "block2"]
    layers = {
        "teacher_layer_name": found.teacher_layer_names,
        "student_layer_name": found.student_layer_names,
    }
    attention = {
        "teacher_layer_name": found.teacher_attention_names,
        "student_layer_name": found.student_attention_names,
    }
    made = {
        "hidden": losses.HiddenStates(**layers),
        "scores": losses.AttentionProbabilities(**attention),
        "probabilities": losses.AttentionProbabilities(
            form="probabilities", **attention
        ),
        "relation": losses.AttentionRelation(heads=4, **attention),
    }
    values = logs(student, teacher, made)
    kernel = made["hidden"].trainable_variables[0].numpy()
    present = (IDS > 0).astype("float32")

    def of_hidden(t, s):
        return np.mean((s @ kernel - t) ** 2, axis=-1)

    def of_relations(t, s):
        return relations(t, s, 4, present)

    def of_attention(t, s):
        return (t - s) ** 2

    for (name, loss), value in zip(made.items(), values):
        distance = of_hidden if name == "hidden" else of_attention
        distance = of_relations if name == "relation" else distance
        counted = pairs(present) if distance is of_attention else present
        _, t = kd.taps.Taps(teacher, loss.teacher_layer_name)(IDS)
        _, s = kd.taps.Taps(student, loss.student_layer_name)(IDS)
        expected = sum(
            mean_where(distance(np.asarray(t[a]), np.asarray(s[b])), counted)
            for a, b in zip(t, s)
        )
        np.testing.assert_allclose(value, expected, rtol=1e-3, err_msg=name)


def without_mask(model):
    """The same network, with its padding as a token."""
    config = model.get_config()
    for layer in config["layers"]:
        layer["config"].pop("mask_zero", None)
    return keras.Model.from_config(config)


@pytest.mark.slow
def test_the_teachers_padding_counts_where_the_student_has_none():
    teacher, student = transformer(2, 4, 2), transformer(1, 4, 2, dropout=0.0)
    student = without_mask(student)
    loss = losses.HiddenStates(
        teacher_layer_name="block2",
        student_layer_name="block1",
        projection=None,
    )
    value = logs(student, teacher, loss)
    t, s = (
        np.asarray(kd.taps.Taps(m, [n])(IDS)[1][n])
        for m, n in ((teacher, "block2"), (student, "block1"))
    )
    expected = mean_where(np.mean((t - s) ** 2, axis=-1), IDS > 0)
    np.testing.assert_allclose(value, expected, rtol=1e-4)


@pytest.mark.slow
def test_padding_that_differs():
    student = transformer(1, 4, 2)
    ids = keras.Input((6,), dtype="int32", name="other")
    teacher = keras.Model(
        ids, student.__class__.from_config(student.get_config())(ids)
    )
    path = f"{student.name}/block1"
    loss = losses.HiddenStates(
        teacher_layer_name=path, student_layer_name="block1"
    )
    others = np.where(IDS == 9, 0, IDS)
    x = {"ids": IDS, "other": others}
    with pytest.raises(ValueError, match=r"5 of 12.*6; the first.*\[1, 1\]"):
        logs(student, teacher, loss, x)
    assert np.isfinite(logs(student, teacher, loss, {"ids": IDS, "other": IDS}))


@pytest.mark.slow
def test_sequences_of_unlike_length():
    longer = kd.models.transformer_classifier(
        20, 3, length=8, depth=1, width=4, heads=2
    )
    for make, name in (
        (losses.HiddenStates, "block1"),
        (losses.AttentionProbabilities, "block1/attention"),
        (losses.AttentionRelation, "block1/attention"),
    ):
        loss = make(teacher_layer_name=name, student_layer_name=name)
        with pytest.raises(
            ValueError, match="(length|positions).*8.*6|8.*6.*positions"
        ):
            logs(transformer(1, 4, 2), longer, loss)


def test_other_heads_are_for_relations():
    names = {
        f"{r}_layer_name": "block1/attention" for r in ("teacher", "student")
    }
    networks = transformer(1, 8, 4), transformer(1, 8, 2)
    with pytest.raises(ValueError, match="kd.losses.AttentionRelation"):
        logs(*networks, losses.AttentionProbabilities(**names))


@pytest.mark.nightly
def test_half_precision_and_xla():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        teacher, student = transformer(2, 8, 2), transformer(1, 8, 2)
    finally:
        keras.config.set_dtype_policy(before)
    found = kd.taps.suggest(teacher, student)
    attentions = {
        "teacher_layer_name": found.teacher_attention_names,
        "student_layer_name": found.student_attention_names,
    }
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=[
            losses.HiddenStates(
                teacher_layer_name=found.teacher_layer_names,
                student_layer_name=found.student_layer_names,
            ),
            losses.AttentionProbabilities(**attentions),
            losses.AttentionRelation(**attentions),
        ],
    )
    distiller.compile("adam", crossentropy(), jit_compile=True)
    history = distiller.fit(IDS, LABELS, epochs=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert history["distillation_loss"][1] < history["distillation_loss"][0]


@pytest.mark.slow
def test_a_distiller_is_loaded_with_its_taps(tmp_path):
    teacher, student = transformer(2, 8, 2), transformer(1, 4, 2)
    attention = {
        "teacher_layer_name": "block2/attention",
        "student_layer_name": "block1/attention",
    }
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=[
            losses.HiddenStates(
                teacher_layer_name="block2", student_layer_name="block1"
            ),
            losses.AttentionProbabilities(**attention),
            losses.AttentionRelation(heads=4, **attention),
        ],
    )
    distiller.compile("sgd", crossentropy())
    distiller.fit(IDS, LABELS, verbose=0)
    distiller.save(tmp_path / "d.keras")
    loaded = kd.load_distiller(tmp_path / "d.keras", teacher=teacher)
    for one, other in zip(distiller.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    expected = distiller.evaluate(IDS, LABELS, verbose=0)
    np.testing.assert_allclose(
        loaded.evaluate(IDS, LABELS, verbose=0), expected, rtol=1e-5
    )
