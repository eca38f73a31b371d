"""Rows of `test_all_losses` for response losses with labels or a coupled
batch, and for the losses that use the teacher's classifier."""

from functools import partial

from loss_checks import LossCase

from keras_distill import losses

IN_STATISTICS = (
    "a weight says how often a sample counts in the sums over the batch: the "
    "loss is not linear in it, see test_weights_are_repetitions"
)


def one_hot(generator, shape):
    """Labels of 7 classes as distributions, one-hot and mixed."""
    labels = generator.dirichlet([0.2] * 7, shape)
    return labels.astype("float32")


def response(loss, shape=(3, 7), student=None, **kwargs):
    fields = ("labels", "coupled", "skip")
    fields = {name: kwargs.pop(name) for name in fields if name in kwargs}
    return LossCase(
        partial(loss, **kwargs),
        shape,
        student or shape,
        response=True,
        **fields,
    )


DECOUPLED = partial(response, losses.DecoupledKD)
DIST = partial(response, losses.DIST, skip={"sample_weight": IN_STATISTICS})
CONFIDENCE = partial(
    response,
    losses.ConfidenceWeightedByTeacherMax,
    skip={"sample_weight": IN_STATISTICS},
)
# Coupled in so far as the seed gives another permutation to another batch.
PERMUTED = partial(
    response,
    losses.DarkKnowledgeWithPermutedPredictions,
    coupled=True,
    seed=5,
    skip={
        "jit": "TensorFlow draws other random numbers under XLA, see "
        "test_permuted_under_xla"
    },
)

NO_POOLING = "the network of the check flattens its map for its classifier"


def classifier(loss, teacher=(3, 4, 4, 5), student=(3, 4, 4, 3), **kwargs):
    return LossCase(
        partial(loss, classes=7, **kwargs),
        teacher,
        student,
        labels=lambda generator, batch: generator.integers(0, 7, batch),
        coupled=True,
        skip={} if teacher[1:3] == (1, 1) else {"drop_in": NO_POOLING},
    )


REGRESSION = partial(classifier, losses.SoftmaxRegression)
REUSED = partial(classifier, losses.ReusedClassifier)
IDEAL = partial(classifier, losses.IdealJointClassifier)

CASES = {
    "decoupled_kd": DECOUPLED(),
    "decoupled_kd_one_hot": DECOUPLED(labels=one_hot, temperature=1.0),
    "decoupled_kd_class_map": DECOUPLED((3, 7), (3, 3), class_map=[6, 0, 2]),
    "decoupled_kd_map": DECOUPLED((3, 2, 3, 4), alpha=0.5, beta=2.0),
    "dist": DIST(),
    "dist_clamp": DIST(
        epsilon="clamp", temperature=4.0, beta=2.0, cross_replica=True
    ),
    "dist_class_map": DIST((3, 7), (3, 3), class_map=[6, 0, 2]),
    "dist_sequence": DIST((3, 4, 5)),
    "confidence_max": CONFIDENCE(),
    "confidence_true_class": CONFIDENCE(
        confidence="true_class", labels=one_hot
    ),
    "confidence_sequence": CONFIDENCE(
        (3, 4, 5), log_gradient_parts=True, cross_replica=True
    ),
    "permuted": PERMUTED(),
    "permuted_class_map": PERMUTED((3, 7), (3, 3), class_map=[6, 0, 2]),
    "permuted_map": PERMUTED((3, 2, 3, 4), log_gradient_parts=True),
    "softmax_regression": REGRESSION(logit_weight=2.0),
    "softmax_regression_vectors": REGRESSION((3, 1, 1, 5), (3, 1, 1, 4)),
    "softmax_regression_sizes": REGRESSION((3, 2, 3, 5), (3, 4, 4, 4)),
    "reused_classifier": REUSED(),
    "reused_classifier_vectors": REUSED((3, 1, 1, 5), (3, 1, 1, 4)),
    "reused_classifier_larger_student": REUSED((3, 2, 3, 5), (3, 4, 4, 4)),
    "reused_classifier_larger_teacher": REUSED(
        (3, 4, 3, 5), (3, 2, 2, 4), reduction=1
    ),
    "ideal_joint": IDEAL(),
    "ideal_joint_sizes": IDEAL((3, 2, 4, 5), (3, 4, 3, 4), feature_weight=2.0),
    "ideal_joint_no_labels": IDEAL(cross_entropy_weight=0.0),
}
