"""Networks, Distiller and strategy that do not fit together."""

import pathlib
import subprocess
import sys
import warnings

import pytest

HERE = pathlib.Path(__file__).parent


def in_a_process(case):
    """A strategy takes its devices for the rest of a process."""
    done = subprocess.run(
        [sys.executable, HERE / "test_strategies.py", *case],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_strategies_that_do_not_fit():
    # All in one process, for the price of one.
    printed = in_a_process(CASES)
    for name, (_, expected) in CASES.items():
        begin = printed.index(f"[{name}]")
        end = printed.index("[end]", begin)
        assert expected in printed[begin:end], name


def case(strategy, other, name):
    import keras
    import tensorflow as tf
    from networks import convnet
    from networks import crossentropy
    from networks import data

    import keras_distill as kd

    x, y = data(8)
    optimizer = keras.optimizers.SGD(0.1)
    batch_norm, synchronized, jit_compile, batch = False, False, False, 4
    where = {"student": strategy, "teacher": strategy, "distiller": strategy}
    if name == "student outside":
        where["student"] = tf.distribute.get_strategy()
    if name == "teacher of another strategy":
        where["teacher"] = other
    if name == "distiller outside":
        where["distiller"] = tf.distribute.get_strategy()
    if name == "local batch norm":
        batch_norm = True
    if name.endswith("compiled"):
        batch_norm = synchronized = jit_compile = True
    if name == "small batch":
        batch = 1
    with where["student"].scope():
        student = convnet(batch_norm=batch_norm, synchronized=synchronized)
    with where["teacher"].scope():
        teacher = convnet(8)
    with where["distiller"].scope():
        distiller = kd.Distiller(
            student=student,
            teacher=teacher,
            distillation_losses=kd.losses.Hint(
                teacher_layer_name="act1", student_layer_name="act1"
            ),
        )
        if name.startswith("a cohort"):
            distiller = kd.MutualDistiller(
                students={"first": student, "second": teacher}
            )
        distiller.compile(optimizer, crossentropy(), jit_compile=jit_compile)
    if name.endswith("evaluated first"):
        expected = float(crossentropy()(y[:7], student(x[:7])))
        found = distiller.evaluate(x[:7], y[:7], verbose=0, return_dict=True)
        found = found.get("first_loss", found["loss"])
        assert abs(found - expected) < 1e-5, (found, expected)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)
    for _ in range(2):
        distiller.fit(dataset, verbose=0)


CASES = {
    "fits": (None, "fine"),
    "student outside": (ValueError, "was made without a strategy"),
    "teacher of another strategy": (ValueError, "of another MirroredStrategy"),
    "distiller outside": (ValueError, "the Distiller outside of any scope"),
    "local batch norm": (UserWarning, "1 UserWarning"),
    "compiled": (UserWarning, "of the networks only a teacher is compiled"),
    "a cohort compiled": (UserWarning, "what ['bn'] exchange"),
    "evaluated first": (None, "fine"),
    "a cohort evaluated first": (None, "fine"),
    "small batch": (ValueError, "has 1 samples for 2 replicas"),
}


def test_parameter_servers_and_tpus_are_refused():
    import tensorflow as tf

    from keras_distill._distribute.strategies import check_strategy

    class Servers(tf.distribute.ParameterServerStrategy):
        num_replicas_in_sync = 1

        def __init__(self):
            pass

    check_strategy(tf.distribute.get_strategy())
    check_strategy(tf.distribute.OneDeviceStrategy("CPU:0"))
    with pytest.raises(ValueError, match="MultiWorkerMirroredStrategy"):
        check_strategy(Servers())


def main(names):
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy, other = (
        tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) for _ in range(2)
    )
    for name in names:
        print(f"[{name}]")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                case(strategy, other, name)
                print("fine")
            except (ValueError, RuntimeError) as error:
                print(type(error).__name__, error)
        ours = [
            w
            for w in caught
            if "replica" in str(w.message) and w.category is UserWarning
        ]
        print(len(ours), "UserWarning", *(w.message for w in ours))
        print("[end]")


if __name__ == "__main__":
    main(sys.argv[1:])
