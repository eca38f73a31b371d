"""Taps at layers that Keras names itself, saved and loaded."""

import keras
import numpy as np
import pytest

import keras_distill as kd

layers = keras.layers
X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")


@keras.saving.register_keras_serializable("test_places")
class Chain(keras.Model):
    """a, b (called twice), a list of layers and a network inside: no names."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a, self.b = layers.Dense(4), layers.Dense(4)
        self.several = [layers.Dense(4), layers.Dense(4)]
        self.inner = functional()
        self.head = layers.Dense(3)

    def call(self, x):
        x = self.b(self.b(self.a(x)))
        return self.head(self.inner(self.several[1](self.several[0](x))))

    def get_config(self):
        return {"name": self.name}


def functional(**kwargs):
    x = inputs = keras.Input((4,))
    for _ in range(3):
        x = layers.Dense(4)(x)
    return keras.Model(inputs, x, **kwargs)


def sequential(width=4):
    return keras.Sequential(
        [layers.Dense(width), layers.Dense(width), layers.Dense(3)]
    )


def layer_of(model, place):
    """`"b"`, `"several.1"`, or the number of a layer."""
    for part in str(place).split("."):
        model = (
            (model if isinstance(model, list) else model.layers)[int(part)]
            if part.isdigit()
            else getattr(model, part)
        )
    return model


def in_another_process(shift):
    """Keras's counters as another process may have them."""
    keras.backend.clear_session()
    for _ in range(shift):
        layers.Dense(1)


def saved(distiller, path):
    distiller.save(path / "d.keras")
    return path / "d.keras"


@pytest.mark.parametrize(
    "shift, load",
    [
        (0, kd.load_distiller),
        (1, keras.models.load_model),
        pytest.param(2, kd.load_distiller, marks=pytest.mark.slow),
        pytest.param(30, kd.load_distiller, marks=pytest.mark.slow),
    ],
)
def test_the_same_layer_in_another_process(tmp_path, shift, load):
    student, teacher = Chain(), Chain()
    for model in (student, teacher):
        model(X)
    loss = kd.losses.Hint(
        teacher_layer_name=[
            teacher.b.name + "#1",
            f"{teacher.inner.name}/{teacher.inner.layers[2].name}",
        ],
        student_layer_name=[student.b.name + "#0", student.several[0].name],
        regressor="dense",
    )
    distiller = kd.Distiller(
        student=student, teacher=teacher, distillation_losses=loss, alpha=1.0
    )
    if shift == 30:
        distiller.compile(keras.optimizers.SGD(0.0))
        before = distiller.train_on_batch(X)
    path = saved(distiller, tmp_path)
    values = teacher.get_weights()

    in_another_process(shift)
    teacher = Chain()
    teacher(X)
    teacher.set_weights(values)
    loaded = load(path)
    loaded.set_teacher(teacher)
    taps = loaded._networks().student_taps.layers.values()
    assert list(taps) == [
        (loaded.student.b, 0),
        (loaded.student.several[0], None),
    ]
    taps = loaded._networks().teacher_taps.layers.values()
    assert list(taps) == [
        (teacher.b, 1),
        (teacher.inner.layers[2], None),
    ]
    if shift == 30:
        assert loaded.train_on_batch(X) == pytest.approx(before, rel=1e-6)
    # Saved again, it is found again.
    path = saved(loaded, tmp_path)
    in_another_process(shift + 1)
    taps = kd.load_distiller(path)._networks().student_taps.layers
    assert [layer.units for layer, _ in taps.values()] == [4, 4]


@pytest.mark.parametrize(
    "make, place", [(functional, 2), (sequential, 1), (Chain, "several.1")]
)
def test_two_loads_in_one_process(tmp_path, make, place):
    student = make()
    student(X)
    loss = kd.losses.Hint(
        teacher_layer_name="t",
        student_layer_name=layer_of(student, place).name,
    )
    teacher = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="t")])
    path = saved(
        kd.Distiller(
            student=student,
            teacher=teacher,
            distillation_losses=loss,
            alpha=1.0,
        ),
        tmp_path,
    )
    for _ in range(2):
        loaded = kd.load_distiller(path, teacher)
        ((layer, _),) = loaded._networks().student_taps.layers.values()
        assert layer is layer_of(loaded.student, place)


def test_a_loss_alone_and_the_arguments_of_other_layers():
    teacher, student = functional(), functional()
    loss = kd.losses.OverhauledFeature(
        teacher_layer_name="t", student_layer_name="s", margin=-1.0
    )
    assert loss.get_config()["teacher_layer_name"] == "t"
    loss = kd.losses.Hint(
        teacher_layer_name=teacher.layers[2].name,
        student_layer_name=student.layers[1].name,
    )
    kd.Distiller(
        student=student, teacher=teacher, distillation_losses=loss, alpha=1.0
    )
    config = keras.saving.serialize_keras_object(loss)
    in_another_process(5)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.teacher_layer_name == loss.teacher_layer_name
    teacher, student = functional(), functional()
    distiller = kd.Distiller(
        student=student, teacher=teacher, distillation_losses=copy, alpha=1.0
    )
    pair = distiller._networks()
    assert (
        pair.teacher_taps.layers[copy.teacher_layer_name][0]
        is (teacher.layers[2])
    )
    assert (
        pair.student_taps.layers[copy.student_layer_name][0]
        is (student.layers[1])
    )


def test_a_classifier_is_found_by_its_place():
    image = keras.Input((4, 4, 3))
    maps = layers.Conv2D(4, 1, name="maps")(image)
    pooled = layers.GlobalAveragePooling2D()(maps)
    teacher = keras.Model(image, layers.Dense(3)(layers.Dense(4)(pooled)))
    student = keras.Sequential(
        [image, layers.Conv2D(4, 1, name="maps"), layers.Flatten()]
    )
    loss = kd.losses.SoftmaxRegression(
        teacher_layer_name="maps",
        student_layer_name="maps",
        teacher_classifier_layer_name=teacher.layers[-2].name,
    )
    kd.Distiller(
        student=student, teacher=teacher, distillation_losses=loss, alpha=1.0
    )
    config = keras.saving.serialize_keras_object(loss)
    copy = keras.saving.deserialize_keras_object(config)
    again = keras.models.clone_model(
        teacher,
        clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "name": f"{layer.name}_other"}
            if isinstance(layer, layers.Dense)
            else layer.get_config()
        ),
    )
    copy.bind(again, student)
    np.testing.assert_array_equal(copy._copied[0], again.layers[-2].kernel)


def test_another_network_is_never_read_in_silence(tmp_path):
    teacher, student = functional(), functional()
    loss = kd.losses.Hint(
        teacher_layer_name=teacher.layers[3].name,
        student_layer_name=student.layers[1].name,
    )
    kd.Distiller(
        student=student, teacher=teacher, distillation_losses=loss, alpha=1.0
    )
    copy = kd.losses.Hint.from_config(loss.get_config())
    x = inputs = keras.Input((4,))
    other = keras.Model(inputs, layers.ReLU()(layers.Dense(4)(x)))
    with pytest.raises(ValueError, match="has no layer there.*name=") as error:
        kd.Distiller(
            student=student, teacher=other, distillation_losses=copy, alpha=1.0
        )
    assert loss.teacher_layer_name in str(error.value)
    copy = kd.losses.Hint.from_config(
        {**loss.get_config(), "teacher_layer_name": student.layers[2].name}
    )
    with pytest.raises(ValueError, match="a Dense, .*'.*has a ReLU there"):
        kd.Distiller(
            student=keras.Sequential([keras.Input((4,)), layers.ReLU()]),
            teacher=student,
            distillation_losses=copy,
            alpha=1.0,
        )


def test_names_that_were_given_stay_names():
    net = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="neck")])
    loss = kd.losses.Hint(teacher_layer_name="neck", student_layer_name="neck")
    kd.Distiller(
        student=net,
        teacher=keras.models.clone_model(net),
        distillation_losses=loss,
        alpha=1.0,
    )
    config = loss.get_config()
    assert config["teacher_layer_name"] == config["student_layer_name"]
    assert config["student_layer_name"] == "neck"


def test_a_loss_of_keras(tmp_path):
    teacher, student = functional(), functional()
    loss = keras.distillation.FeatureDistillation(
        loss="mse",
        teacher_layer_name=teacher.layers[2].name,
        student_layer_name=student.layers[1].name,
    )
    path = saved(
        kd.Distiller(
            student=student,
            teacher=teacher,
            distillation_losses=loss,
            alpha=1.0,
        ),
        tmp_path,
    )
    in_another_process(2)
    again = functional()
    again.set_weights(teacher.get_weights())
    pair = kd.load_distiller(path, again)._networks()
    ((layer, _),) = pair.teacher_taps.layers.values()
    assert layer is again.layers[2]


@pytest.mark.parametrize("shift", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_cohorts(tmp_path, shift):
    students = {}
    for name in ("one", "two"):
        keras.backend.clear_session()
        students[name] = Chain(name=name)
        students[name](X)
    loss = kd.losses.Hint(
        teacher_layer_name=students["one"].b.name + "#0",
        student_layer_name=students["two"].several[0].name,
    )
    path = saved(
        kd.MutualDistiller(students=students, distillation_losses=loss),
        tmp_path,
    )
    in_another_process(shift)
    loaded = keras.models.load_model(path)
    for member in loaded._members.values():
        student = member.student
        taps = member._networks().student_taps.layers.values()
        assert list(taps) == [(student.several[0], None), (student.b, 0)]


def test_branches_and_exits(tmp_path):
    student = functional()
    path = saved(
        kd.NativeEnsembleDistiller(
            student=student, branch_from=student.layers[1].name
        ),
        tmp_path,
    )
    config = kd.NativeEnsembleDistiller(
        student=student, branch_from=student.layers[1].name
    ).get_config()
    in_another_process(7)
    assert kd.load_distiller(path).branch_from == student.layers[1].name
    renamed = functional()
    config["student"] = keras.saving.serialize_keras_object(renamed)
    again = kd.NativeEnsembleDistiller.from_config(config)
    # An input and the two layers after the first.
    assert len(again._branched.get_layer("branch_2").layers) == 3

    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(layers.Conv2D(4, 3)(image))
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    network = keras.Model(image, x)
    distiller = kd.BeYourOwnTeacher(
        student=network, exits=[network.layers[1].name]
    )
    path = saved(distiller, tmp_path)
    loaded = keras.models.load_model(path)
    taps = list(loaded._networks().student_taps.layers.values())
    assert taps[0] == (loaded.student.layers[1], None)
