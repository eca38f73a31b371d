"""What int8 costs the student: a try after the short training."""

import numpy as np

from keras_distill.diagnosis.classifier import Classifier
from keras_distill.diagnosis.headroom import in_words
from keras_distill.diagnosis.measuring import look
from keras_distill.metrics.decisions import paired_difference
from keras_distill.quantization import aware
from keras_distill.quantization import calibrate

# What TFLite's calibration takes at most.
CALIBRATION_SAMPLES = 500


def cost(student, training, held_out, samples, ignore_class=None):
    """Compares a trained student with its int8 network.

    Args:
        student: The `Classifier` of the student, with its trained weights.
        training: The `Data` to calibrate on.
        held_out: The labelled `Data` to judge by.
        samples: The largest number of samples of it.
        ignore_class: The label of samples without a class, or `None`.

    Returns:
        A dict of plain values: the `"agreement"` of both, a share in [0, 1],
        and `"lost"`, the accuracy in float minus that in int8, with its 95 %
        interval. `None` for a student that `kd.quantization.aware` refuses.
    """

    def inputs():
        for x, _, _ in training.some(CALIBRATION_SAMPLES):
            yield student.see(x)

    try:
        model = aware(student.model)
    except ValueError:
        return None
    calibrate(model, inputs)
    x, _, _ = held_out.first()
    rounded = Classifier(model, student.see, x, "student")
    looked = look(
        held_out,
        samples,
        student,
        rounded,
        {"int8": lambda: None},
        ignore_class,
    )
    before = looked.teacher.argmax(-1)
    after = looked.students["int8"].argmax(-1)
    lost, (low, high) = paired_difference(
        before == looked.labels, after == looked.labels, looked.weights
    )
    return {
        "agreement": float(np.average(before == after, weights=looked.weights)),
        "lost": {"difference": lost, "low": low, "high": high},
    }


def note(facts):
    """Says in a sentence what int8 costs."""
    found = facts["int8"]
    return (
        "In int8, rounded after the short training, the student decides as in "
        f"float on {found['agreement']:.1%} of the validation samples; it "
        f"loses {in_words(found['lost'])}."
    )


def finding(facts):
    """Says that int8 surely costs something, and what to do."""
    found = facts.get("int8")
    if found is None or found["lost"]["low"] <= 0:
        return None
    return "int8_costs", (
        "Rounded to int8 after training, this student loses "
        f"{in_words(found['lost'])}. Train it for int8: "
        "kd.quantization.fine_tune(student, images, teacher=teacher)."
    )
