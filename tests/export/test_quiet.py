"""What exports print, and what they leave to the user."""

import logging
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from keras_distill.export import quiet

SCRIPT = """
import sys
import keras
import keras_distill as kd

class Own(keras.layers.Layer):
    def call(self, x):
        print("mine")
        print("my error", file=sys.stderr)
        return 2 * x

inputs = keras.Input((6,))
model = keras.Model(inputs, Own()(inputs))
model(keras.ops.ones((1, 6)))  # TensorFlow looks for devices, and logs it
for stream in sys.stdout, sys.stderr:
    print("=====", file=stream, flush=True)
kd.export.tflite(model, sys.argv[1] + "/a.tflite")
kd.export.export_model(model, sys.argv[1] + "/a")
kd.export.export_model(model, sys.argv[1] + "/a.keras", verbose=False)
"""


@pytest.mark.slow
def test_exports_print_one_line_each_and_what_the_model_prints(tmp_path):
    environment = {**os.environ}
    environment.pop("TF_CPP_MIN_LOG_LEVEL")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, tmp_path],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    out, err = (s.split("=====\n")[1] for s in (done.stdout, done.stderr))
    lines = [line for line in out.splitlines() if line != "mine"]
    assert "mine" in out and "my error" in err
    assert len(lines) == 2
    assert lines[0].startswith(f"Saved '{tmp_path}/a.tflite': float32, ")
    assert lines[1] == f"Saved '{tmp_path}/a': tf_saved_model."
    assert set(err.splitlines()) == {"my error"}


def test_native_logs_are_dropped_and_other_lines_are_not(capfd):
    with quiet.without_native_log():
        for line in (
            b"W0000 00:00:1795781578.44  15509 a.cc:364] Ignored.\n",
            b"2026-11-27 12:00:00.123: I tensorflow/a.cc:1] reading\n",
            b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n",
            b"INFO: of the user's own\n",
        ):
            os.write(2, line)
        print("mine", file=sys.stderr)
    os.write(2, b"after\n")
    seen = capfd.readouterr().err
    assert set(seen.splitlines()) == {
        "INFO: of the user's own",
        "mine",
        "after",
    }


def test_standard_error_comes_back_after_an_error(capfd):
    with pytest.raises(KeyError):
        with quiet.without_native_log():
            os.write(2, b"before\n")
            raise KeyError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_only_tensorflow_s_own_logs_are_dropped(caplog):
    logger = logging.getLogger("tensorflow")
    of_tensorflow = f"{os.path.dirname(tf.__file__)}/python/a.py"

    def log(path, level, text):
        record = logger.makeRecord("tf", level, path, 1, text, (), None)
        logger.handle(record)

    logger.addHandler(caplog.handler)
    try:
        with quiet.without_python_log():
            log(of_tensorflow, logging.WARNING, "Assets written")
            log(of_tensorflow, logging.ERROR, "an error")
            log("user.py", logging.WARNING, "mine")
        log(of_tensorflow, logging.WARNING, "later")
    finally:
        logger.removeHandler(caplog.handler)
    assert list(dict.fromkeys(caplog.messages)) == ["an error", "mine", "later"]
