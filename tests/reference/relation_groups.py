"""The groups of the relation family: see `adapter.py`."""

from functools import partial

import numpy as np
from gradients import value_and_gradients
from keras import ops

from keras_distill import losses


def embeddings(make_loss, inputs, dtype):
    """A loss of one pair of embeddings."""
    loss = make_loss(dtype=dtype)
    teacher = inputs["teacher_embedding"]
    student = inputs["student_embedding"]
    loss.build(tuple(teacher.shape), tuple(student.shape))
    return value_and_gradients(
        lambda: {"loss": loss.compute_loss(teacher, student)},
        {"student_embedding": student},
    )


def maps(make_loss, hyperparameters, inputs, dtype):
    from adapter import features

    return features(make_loss, hyperparameters, inputs, dtype)


def rkd_distance(hyperparameters, inputs, dtype):
    return embeddings(losses.RelationalDistance, inputs, dtype)


def rkd_angle(hyperparameters, inputs, dtype):
    return embeddings(losses.RelationalAngle, inputs, dtype)


def rkd_combined(hyperparameters, inputs, dtype):
    parts = (
        (hyperparameters["w_d"], rkd_distance),
        (hyperparameters["w_a"], rkd_angle),
    )
    total = {}
    for weight, part in parts:
        for name, value in part({}, inputs, dtype).items():
            total[name] = total.get(name, 0.0) + weight * value
    return total


def fsp_mse(hyperparameters, inputs, dtype):
    make_loss = losses.FlowOfSolutionProcedure
    return maps(make_loss, hyperparameters, inputs, dtype)


def fsp_norm(hyperparameters, inputs, dtype):
    make_loss = partial(
        losses.FlowOfSolutionProcedure,
        form="norm",
        pooling="max",
        flows="disjoint",
    )
    return maps(make_loss, hyperparameters, inputs, dtype)


def sp(hyperparameters, inputs, dtype):
    make_loss = losses.SimilarityPreserving
    return maps(make_loss, hyperparameters, inputs, dtype)


def cc_bilinear(hyperparameters, inputs, dtype):
    make_loss = partial(
        losses.CorrelationCongruence, kernel="bilinear", form="norm"
    )
    return embeddings(make_loss, inputs, dtype)


def cc_gaussian(hyperparameters, inputs, dtype):
    make_loss = partial(
        losses.CorrelationCongruence,
        form="norm",
        gamma=hyperparameters["gamma"],
        order=hyperparameters["max_p"],
        normalize=False,
    )
    return embeddings(make_loss, inputs, dtype)


def cc_delta(hyperparameters, inputs, dtype):
    make_loss = partial(losses.CorrelationCongruence, form="delta")
    return embeddings(make_loss, inputs, dtype)


def pkt(hyperparameters, inputs, dtype):
    from adapter import fixed

    fixed(hyperparameters, eps=1e-7)
    make_loss = partial(losses.ProbabilisticTransfer, form="code")
    return embeddings(make_loss, inputs, dtype)


def ickd(hyperparameters, inputs, dtype):
    make_loss = partial(losses.InterChannelCorrelation, form="code")
    return maps(make_loss, hyperparameters, inputs, dtype)


class GivenContrast(losses.ContrastiveRepresentation):
    """Compares with the negatives that the case stores."""

    def draw_contrast(self, sample_index):
        return self.contrast


def crd(hyperparameters, inputs, dtype):
    from adapter import fixed

    fixed(hyperparameters, eps=1e-7)
    sample_count, size = inputs["memory_student"].shape
    loss = GivenContrast(
        sample_count=sample_count,
        embedding_size=size,
        negatives=inputs["contrast_idx"].shape[1] - 1,
        temperature=hyperparameters["temperature"],
        momentum=hyperparameters["momentum"],
        dtype=dtype,
    )
    loss.contrast = inputs["contrast_idx"]
    teacher = inputs["teacher_embedding"]
    student = inputs["student_embedding"]
    loss.build(tuple(teacher.shape), tuple(student.shape))
    watched = {"student_embedding": student}
    for role in ("teacher", "student"):
        dense = getattr(loss, f"{role}_dense")
        for weight in ("kernel", "bias"):
            name = f"{role}_proj_{weight}"
            watched[name] = getattr(dense, weight)
            watched[name].assign(inputs[name])
        getattr(loss, f"{role}_memory").assign(inputs[f"memory_{role}"])
    normalizers = [hyperparameters["z_student"], hyperparameters["z_teacher"]]
    if min(normalizers) > 0:
        loss.log_normalizers.assign(np.log(normalizers))

    def compute():
        value = loss.compute_loss(
            teacher, student, sample_index=inputs["positive_idx"]
        )
        return {"loss": value}

    results = value_and_gradients(compute, watched)
    results["memory_teacher_after"] = ops.convert_to_numpy(loss.teacher_memory)
    results["memory_student_after"] = ops.convert_to_numpy(loss.student_memory)
    after = np.exp(ops.convert_to_numpy(loss.log_normalizers))
    results["z_student_after"], results["z_teacher_after"] = after
    return results


GROUPS = {
    "crd": crd,
    "rkd_distance": rkd_distance,
    "rkd_angle": rkd_angle,
    "rkd_combined": rkd_combined,
    "fsp_mse": fsp_mse,
    "fsp_norm": fsp_norm,
    "sp": sp,
    "cc_bilinear": cc_bilinear,
    "cc_gaussian": cc_gaussian,
    "cc_delta": cc_delta,
    "pkt": pkt,
    "ickd": ickd,
}
