"""Several teachers by name: what runs, what losses read, what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import nightly
from networks import CLASSES
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd
from keras_distill._keras.heads import final_activation

X, Y = data(24)
Combination = kd.teachers.Combination
layers = keras.layers


def soft(name, **options):
    return kd.losses.SoftTargets(teacher_layer_name=name, **options)


def distiller(teacher, losses, student=None, metrics=None, **options):
    result = kd.Distiller(
        student=student or convnet(),
        teacher=teacher,
        distillation_losses=losses,
        **{"alpha": 1.0, **options},
    )
    result.compile(keras.optimizers.SGD(0.0), metrics=metrics)
    return result


def terms(teacher, losses, x=X, y=None, **options):
    """The logs of one step on the whole data, with a rate of 0."""
    model = distiller(teacher, losses, **options)
    y = None if y is None else y[: len(Y)]
    return model.fit(x, y, batch_size=24, verbose=0).history


def taught(loss, teacher_output, student):
    output = student(X)
    return float(loss.compute_loss(np.asarray(teacher_output), output))


@pytest.fixture(scope="module")
def shape():
    return convnet(6, name="net")


@pytest.fixture(scope="module")
def texture():
    return convnet(8, size=12, name="net")


@pytest.fixture(scope="module")
def teachers(shape, texture):
    return kd.Teachers(
        {"texture": texture, "shape": shape},
        preprocessing={"texture": layers.Resizing(12, 12)},
        combinations={
            "both": ["shape", "texture"],
            "any": Combination(["shape", "texture"], rule="sample"),
        },
    )


def test_each_teacher_sees_its_own_input(teachers, shape, texture):
    outputs = teachers.predict(X, verbose=0)
    assert list(outputs) == ["shape", "texture"]
    np.testing.assert_allclose(outputs["shape"], shape(X), atol=1e-5)
    resized = layers.Resizing(12, 12)(X)
    np.testing.assert_allclose(outputs["texture"], texture(resized), atol=1e-5)


def test_all_teachers_see_the_same_view_in_their_size():
    members = {name: convnet(6, size=12) for name in "ab"}
    members["b"].set_weights(members["a"].get_weights())
    views = kd.views.FunctionMatching(8, teacher_image_size=12)
    found = terms(members, {"a": soft("a"), "b": soft("b")}, views=views)
    assert found["a_loss"] == pytest.approx(found["b_loss"], rel=1e-5)


@pytest.mark.parametrize(
    "batch_size", [None, pytest.param(7, marks=pytest.mark.slow)]
)
def test_losses_read_outputs_and_layers_of_each(teachers, texture, batch_size):
    student = convnet()
    same = {"student_layer_name": "act1"}
    relation = kd.losses.SimilarityPreserving
    found = terms(
        teachers,
        {
            "shape": soft("shape"),
            "texture": soft("texture"),
            "layer": relation(teacher_layer_name="texture/act1", **same),
        },
        student=student,
        teacher_batch_size=batch_size,
    )
    outputs = teachers(X)
    for name in ("shape", "texture"):
        expected = taught(soft(None), outputs[name], student)
        assert found[f"{name}_loss"] == [pytest.approx(expected, rel=1e-4)]
    _, taken = kd.taps.Taps(texture, ["act1"])(layers.Resizing(12, 12)(X))
    _, own = kd.taps.Taps(student, ["act1"])(X)
    expected = relation(teacher_layer_name="act1", **same).compute_loss(
        taken["act1"], own["act1"]
    )
    assert found["layer_loss"] == [pytest.approx(float(expected), rel=1e-4)]
    # The first loss on scores says whose decisions count.
    chosen = np.argmax(outputs["shape"], -1) == np.argmax(student(X), -1)
    assert found["agreement"] == [pytest.approx(chosen.mean())]


def test_each_runs_once_a_step_and_not_if_no_loss_reads_it():
    """Eagerly, `Subclassed` counts its calls."""
    members = {name: Subclassed(name=name) for name in ("a", "b", "c")}
    for member in members.values():
        member(X)
        member.calls = 0
    with pytest.warns(UserWarning, match="no loss reads the teacher 'c'.*MiB"):
        model = distiller(members, {"one": soft("a"), "two": soft("b")})
    model.run_eagerly = True
    model.fit(X, batch_size=12, verbose=0)  # And the look at the first batch.
    assert [m.calls for m in members.values()] == [3, 3, 0]


def test_a_name_that_no_teacher_has(teachers):
    with pytest.raises(ValueError, match="no layer 'shap'.*'shape'"):
        distiller(teachers, soft("shap"))
    with pytest.raises(ValueError, match='teacher_layer_name="other"'):
        distiller(
            {"shape": convnet(), "other": convnet()}, kd.losses.SoftTargets()
        )


def of_pictures_and_words():
    image = keras.Input((8, 8, 3), name="image")
    word = keras.Input((5,), name="word")
    x = layers.Concatenate()([layers.Flatten()(image), word])
    return keras.Model([image, word], layers.Dense(CLASSES)(x))


@pytest.mark.parametrize(
    "named", ["by input", pytest.param("by teacher", marks=pytest.mark.slow)]
)
def test_inputs_of_their_own(named):
    reader, student = of_pictures_and_words(), convnet()
    words = np.random.default_rng(0).normal(size=(24, 5)).astype("float32")
    x = {"image": X, "word": words}
    teacher = {"reader": reader, "viewer": convnet(8)}
    if named == "by teacher":
        x = {"image": X, "viewer": X / 2, "reader": {"image": X, "word": words}}
    losses = {"soft": soft("reader"), "other": soft("viewer")}
    found = terms(teacher, losses, x=x, student=student)
    expected = taught(soft(None), reader([X, words]), student)
    assert found["soft_loss"] == [pytest.approx(expected, rel=1e-4)]
    seen = X / 2 if named == "by teacher" else X
    expected = taught(soft(None), teacher["viewer"](seen), student)
    assert found["other_loss"] == [pytest.approx(expected, rel=1e-4)]


def test_a_precision_of_their_own():
    a, b = convnet(8), convnet(8)
    both = kd.Teachers({"a": a, "b": b}, dtypes={"b": "bfloat16"})
    outputs = both(X)
    np.testing.assert_allclose(outputs["a"], a(X), atol=1e-6)
    difference = np.abs(outputs["b"] - b(X)).max()
    assert 0 < difference < 0.05 and outputs["b"].dtype == "float32"
    assert {layer.compute_dtype for layer in b.layers} == {"float32"}


def test_a_sampled_teacher_is_the_same_for_a_whole_batch(teachers):
    student = convnet()
    model = distiller(teachers, {"any": soft("any")}, student=student)
    outputs = teachers(X)
    expected = [
        taught(soft(None), outputs[n], student) for n in ("shape", "texture")
    ]
    found = []
    for _ in range(8):
        found.append(model.train_on_batch(X, return_dict=True)["any_loss"])
        model._current_logs().training.reset_state()
    drawn = [int(np.argmin(np.abs(np.subtract(expected, f)))) for f in found]
    for loss, which in zip(found, drawn):
        assert loss == pytest.approx(expected[which], rel=1e-4)
    assert set(drawn) == {0, 1}


@pytest.mark.slow
def test_only_the_sampled_teacher_runs():
    members = {name: Subclassed(name=name) for name in "ab"}
    for member in members.values():
        member(X)
    sampled = Combination(["a", "b"], weights=[1, 0], rule="sample")
    teachers = kd.Teachers(members, combinations={"any": sampled})
    for member in members.values():
        member.calls = 0  # A trial showed whether it gives probabilities.
    model = distiller(teachers, soft("any"))
    model.run_eagerly = True
    model.fit(X, batch_size=12, verbose=0)
    assert [m.calls for m in members.values()] == [3, 1]


def test_in_evaluation_the_mean_stands_for_a_sample(teachers):
    losses = {"any": soft("any"), "both": soft("both")}
    model = distiller(teachers, losses)
    model.train_on_batch(X)
    found = model.evaluate(X, verbose=0, return_dict=True)
    assert found["any_loss"] == pytest.approx(found["both_loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, *nightly(True)])
def test_saved_loaded_and_trained_on(teachers, tmp_path, jit_compile):
    teachers.save(tmp_path / "teachers.keras")
    loaded = keras.saving.load_model(tmp_path / "teachers.keras")
    for name, output in teachers(X).items():
        np.testing.assert_allclose(loaded(X)[name], output, atol=1e-5)
    hint = kd.losses.Hint(
        teacher_layer_name="shape/conv1", student_layer_name="conv1"
    )
    losses = {"soft": soft("both"), "any": soft("any"), "hint": hint}
    model = kd.Distiller(
        student=convnet(), teacher=teachers, distillation_losses=losses
    )
    model.compile("adam", crossentropy(), jit_compile=jit_compile)
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "distiller.keras")
    again = kd.load_distiller(tmp_path / "distiller.keras", teacher=loaded)
    again.fit(X, Y, verbose=0)
    other = kd.Teachers({"shape": convnet(6), "texture": convnet(8)})
    with pytest.raises(ValueError, match="not the teacher"):
        kd.load_distiller(tmp_path / "distiller.keras", teacher=other)


@pytest.mark.slow
def test_layers_that_keras_named_are_found_in_another_model(tmp_path):
    def network():
        image = keras.Input((8, 8, 3))
        x = layers.Conv2D(4, 3)(layers.Conv2D(4, 3)(image))
        x = layers.GlobalAveragePooling2D()(x)
        return keras.Model(image, layers.Dense(CLASSES)(x))

    members = {name: network() for name in ("unused", "used")}
    name = [layer.name for layer in members["used"].layers][1]
    hint = kd.losses.Hint(
        teacher_layer_name=f"used/{name}", student_layer_name="conv1"
    )
    with pytest.warns(UserWarning, match="no loss reads"):
        model = distiller(members, {"hint": hint, "soft": soft("used")})
    before = model.fit(X, batch_size=24, verbose=0).history["hint_loss"]
    model.save(tmp_path / "distiller.keras")
    with pytest.warns(UserWarning, match="no loss reads"):
        again = kd.load_distiller(
            tmp_path / "distiller.keras",
            teacher=dict(reversed(members.items())),
        )
    again.fit(X, batch_size=24, verbose=0)
    layer, _ = again._networks().teacher_taps.layers[f"used/{name}"]
    assert layer is members["used"].layers[1] and before[0] > 0


@pytest.mark.parametrize(
    "argument, arguments",
    [
        ("teachers", {"teachers": {}}),
        ("teachers", {"teachers": {"a": "a path"}}),
        ("teachers", {"teachers": {"a/b": convnet}}),
        ("teachers", {"teachers": {"student": convnet}}),
        ("preprocessing", {"preprocessing": {"c": layers.Rescaling(2.0)}}),
        ("preprocessing", {"preprocessing": {"a": 2.0}}),
        ("dtypes", {"dtypes": {"a": "int8"}}),
        ("combinations", {"combinations": {"a": ["a", "b"]}}),
        ("combinations", {"combinations": {"m": ["a", "c"]}}),
        ("combinations", {"combinations": {"m": "mean"}}),
    ],
)
def test_arguments_that_are_none(argument, arguments):
    members = arguments.pop("teachers", {"a": convnet, "b": convnet})
    members = {k: v() if callable(v) else v for k, v in members.items()}
    with pytest.raises((TypeError, ValueError), match=argument):
        kd.Teachers(members, **arguments)


def test_a_moving_teacher_stays_alone():
    with pytest.raises(ValueError, match="moving teacher"):
        kd.Teachers({"a": kd.MovingAverageTeacher(convnet())})


def test_tools_that_look_at_one_teacher(teachers):
    with pytest.raises(ValueError, match="teacher: this looks at one"):
        kd.choose(student=convnet(), teacher=teachers, x=X, y=Y, steps=1)
    with pytest.raises(ValueError, match="one of them, and name them behind"):
        kd.taps.suggest(teachers, convnet())


@pytest.mark.slow
def test_a_cached_teacher_beside_a_live_one(shape, tmp_path):
    stored = convnet(5)
    keep = kd.teachers.StoredOutputs(layer_names=["act1"], dtype="float32")
    cache = kd.TeacherCache.build(
        stored, X, tmp_path / "cache", outputs=keep, verbose=False
    )
    student = convnet()
    hint = kd.losses.SimilarityPreserving(
        teacher_layer_name="stored/act1", student_layer_name="act1"
    )
    teachers = kd.Teachers(
        {"shape": shape, "stored": cache},
        combinations={"both": ["shape", "stored"]},
    )
    losses = {"both": soft("both"), "stored": soft("stored"), "hint": hint}
    model = distiller(teachers, losses, student=student)
    samples = kd.views.indexed(tf.data.Dataset.from_tensor_slices(X))
    batches = samples.shuffle(24).batch(24)
    found = model.fit(cache.join(batches, name="stored"), verbose=0).history
    live = terms(
        kd.Teachers(
            {"shape": shape, "stored": stored},
            combinations={"both": ["shape", "stored"]},
        ),
        {
            "both": soft("both"),
            "stored": soft("stored"),
            "hint": kd.losses.SimilarityPreserving(
                teacher_layer_name="stored/act1", student_layer_name="act1"
            ),
        },
        student=student,
    )
    for name in ("both_loss", "stored_loss", "hint_loss", "agreement"):
        assert found[name] == [pytest.approx(live[name][0], rel=1e-4)]
    for wrong, message in (
        (batches, "the data carries no outputs of it"),
        (cache.join(batches), "outputs of one teacher without a name"),
        (cache.join(batches, name="shape"), r"are \['stored'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(wrong, verbose=0)
    with pytest.warns(UserWarning, match="'stored' of.*cache is not read"):
        distiller({"live": convnet(), "stored": cache}, soft("live"))
    with pytest.raises(ValueError, match="already, of .'stored'."):
        cache.join(cache.join(batches, name="stored"), name="stored")


@pytest.mark.slow
def test_two_cached_teachers_and_the_cache_of_another(tmp_path):
    caches = {
        name: kd.TeacherCache.build(
            convnet(width), X, tmp_path / name, verbose=False
        )
        for name, width in (("a", 4), ("b", 5), ("c", 6))
    }
    members = {name: caches[name] for name in "ab"}
    model = distiller(members, {"a": soft("a"), "b": soft("b")})
    samples = kd.views.indexed(tf.data.Dataset.from_tensor_slices(X)).batch(8)
    joined = caches["a"].join(samples, name="a")
    model.fit(caches["b"].join(joined, name="b"), verbose=0)
    with pytest.raises(ValueError, match="another cache"):
        model.fit(caches["c"].join(joined, name="b"), verbose=0)
    with pytest.raises(ValueError, match="are cached, and it carries no"):
        model.fit(
            caches["b"].join(joined, name="b"), validation_data=X, verbose=0
        )


@pytest.mark.slow
def test_one_of_cached_teachers_is_drawn(tmp_path):
    samples = kd.views.indexed(tf.data.Dataset.from_tensor_slices(X)).batch(24)
    members = {}
    for name, width in ("a", 4), ("b", 5):
        members[name] = kd.TeacherCache.build(
            convnet(width), X, tmp_path / name, verbose=False
        )
        samples = members[name].join(samples, name=name)
    sampled = Combination(["a", "b"], rule="sample")
    teachers = kd.Teachers(members, combinations={"any": sampled})
    model = distiller(teachers, {name: soft(name) for name in ("any", *"ab")})
    found = model.fit(samples, epochs=8, verbose=0).history
    expected = [found[f"{name}_loss"][0] for name in "ab"]
    drawn = [
        int(np.argmin(np.abs(np.subtract(expected, loss))))
        for loss in found["any_loss"]
    ]
    for loss, which in zip(found["any_loss"], drawn):
        assert loss == pytest.approx(expected[which], rel=1e-4)
    assert set(drawn) == {0, 1}


@pytest.mark.slow
def test_all_teachers_in_one_cache(teachers, tmp_path):
    keep = kd.teachers.StoredOutputs(
        layer_names=["shape", "texture/conv1"], dtype="float32"
    )
    cache = kd.TeacherCache.build(
        teachers, X, tmp_path / "cache", outputs=keep, verbose=False
    )
    samples = kd.views.indexed(tf.data.Dataset.from_tensor_slices(X)).batch(24)
    student = convnet()
    model = distiller(None, {"soft": soft("shape")}, student=student)
    found = model.fit(cache.join(samples), verbose=0).history["soft_loss"]
    expected = taught(soft(None), teachers(X)["shape"], student)
    assert found == [pytest.approx(expected, rel=1e-4)]


def two_places(strategy, jit_compile):
    """The loss of two teachers on two devices, and beside their student."""
    losses = []
    for devices in (("CPU:0", "CPU:0"), ("CPU:0", "CPU:1")):
        keras.utils.set_random_seed(0)
        members = {}
        for name, device in zip("ab", devices):
            with tf.device(device):
                members[name] = convnet(8)
        mean = kd.Teachers(members, combinations={"mean": ["a", "b"]})
        model = distiller(mean, {"soft": soft("mean")})
        model.compile(keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        assert model._networks().run_teacher.is_spread() == (
            devices[1] == "CPU:1"
        )
        losses.append(model.fit(X, verbose=0).history["soft_loss"][0])
    with tf.device("CPU:0"):
        places = [x.device[-5:] for x in mean(X).values()]
    return losses, places


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [True, *nightly(False)])
def test_each_runs_on_its_own_device(jit_compile, on_replicas):
    (one, other), places = on_replicas(1, two_places, jit_compile)
    assert places == ["CPU:0", "CPU:1"]
    assert other == pytest.approx(one, rel=1e-5)


def trained_on(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        rules = {
            rule: Combination(["a", "b"], rule=rule)
            for rule in ("label", "sample")
        }
        teachers = kd.Teachers(
            {"a": convnet(6), "b": convnet(8)}, combinations=rules
        )
        student = convnet()
        model = kd.Distiller(
            student=student,
            teacher=teachers,
            distillation_losses={rule: soft(rule) for rule in rules},
        )
        model.compile(keras.optimizers.SGD(0.1), crossentropy())
    model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return [w.tolist() for w in student.get_weights()]


@pytest.mark.slow
def test_two_replicas_learn_what_one_device_does(on_replicas):
    one, two = (on_replicas(n, trained_on) for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_softmax_of_the_teacher_of_a_task_is_found():
    image = keras.Input((6,))
    scores = keras.layers.Dense(3, activation="softmax")(image)
    teachers = kd.Teachers({"shape": keras.Model(image, scores)})
    assert final_activation(teachers, "shape") == "softmax"
    student = keras.Model(image, {"shape": keras.layers.Dense(3)(image)})
    with pytest.raises(ValueError, match="ends in a softmax"):
        kd.Distiller(
            student=student,
            teacher=teachers,
            distillation_losses={"shape": kd.losses.LogitsMSE()},
        )


def test_teachers_stay_trainable():
    teacher = convnet()
    model = distiller({"shape": teacher}, soft("shape"))
    assert len(model.trainable_variables) == len(teacher.trainable_variables)
    model.fit(X, verbose=0)
    assert teacher.trainable_variables and teacher.layers[1].trainable


def test_one_of_several_outputs_of_a_teacher_is_named():
    image = keras.Input((6,))
    heads = {"p": layers.Dense(3)(image), "q": layers.Dense(3)(image)}
    student = keras.Model(image, layers.Dense(3)(image))
    with pytest.raises(ValueError, match='teacher_layer_name="shape/p"'):
        distiller({"shape": keras.Model(image, heads)}, soft("shape"), student)


def test_a_cache_of_layers_cannot_be_combined(tmp_path):
    # Of a teacher of several outputs, a cache holds layers.
    inner = convnet()
    several = keras.Model(inner.input, {"p": inner.output, "q": inner.output})
    keep = kd.teachers.StoredOutputs(layer_names=["conv1"])
    cache = kd.TeacherCache.build(
        several, X, tmp_path / "cache", outputs=keep, verbose=False
    )
    with pytest.raises(ValueError, match="cache holds layers only"):
        distiller(
            kd.Teachers(
                {"shape": convnet(), "stored": cache},
                combinations={"both": ["shape", "stored"]},
            ),
            soft("both"),
        )


@pytest.mark.slow
def test_the_cache_of_the_fewest_epochs_is_joined_first(tmp_path):
    views = kd.views.FunctionMatching((8, 8))
    caches = {
        name: kd.TeacherCache.build(
            convnet(),
            X,
            tmp_path / name,
            views=views,
            epochs=epochs,
            verbose=False,
        )
        for name, epochs in (("a", 2), ("b", 3))
    }
    samples = kd.views.indexed(tf.data.Dataset.from_tensor_slices(X)).batch(24)
    right = caches["b"].join(caches["a"].join(samples, name="a"), name="b")
    assert len(list(right.take(4))) == 4
    wrong = caches["a"].join(caches["b"].join(samples, name="b"), name="a")
    with pytest.raises(tf.errors.InvalidArgumentError, match="fewest epochs"):
        list(wrong.take(4))
