"""The reference groups of the feature losses: see `adapter.py`."""

from functools import partial

import keras
import numpy as np

from keras_distill import losses


def vid(hyperparameters, inputs, dtype):
    import adapter

    kernel = inputs["regressor_kernel_0"]
    make_loss = partial(
        losses.VariationalInformation,
        reduction="mean",
        hidden_channels=int(kernel.shape[-1]),
        epsilon=hyperparameters["eps"],
    )
    return adapter.features(
        make_loss,
        hyperparameters,
        inputs,
        dtype,
        connector=("regressor_kernel", "log_scale"),
    )


def nst(hyperparameters, inputs, dtype):
    import adapter

    make_loss = losses.NeuronSelectivityTransfer
    return adapter.features(make_loss, hyperparameters, inputs, dtype)


def ab(hyperparameters, inputs, dtype, form="paper"):
    import adapter

    make_loss = partial(
        losses.ActivationBoundary,
        margin=hyperparameters["margin"],
        connector=None,
        form=form,
    )
    return adapter.features(make_loss, hyperparameters, inputs, dtype)


ab_weighted = partial(ab, form="code")


def ofd(hyperparameters, inputs, dtype):
    """The margin comes from the batch normalization of a teacher."""
    import adapter

    gamma, beta = inputs["teacher_bn_gamma"], inputs["teacher_bn_beta"]
    norm = keras.layers.BatchNormalization(name="teacher_feature")
    teacher = keras.Sequential(
        [keras.Input((None, None, gamma.shape[0])), norm]
    )
    norm.set_weights([gamma, beta, 0 * beta, 1 + 0 * beta])

    def make_loss(**kwargs):
        loss = losses.OverhauledFeature(connector=None, **kwargs)
        loss.bind(teacher, None)
        np.testing.assert_allclose(loss._found[0], inputs["margin"], rtol=1e-6)
        # The reference stores its margin as float32.
        return losses.OverhauledFeature(
            connector=None, margin=[inputs["margin"].numpy()], **kwargs
        )

    return adapter.features(make_loss, hyperparameters, inputs, dtype)


def ft(hyperparameters, inputs, dtype, form="code"):
    """The arrays are the factors: no translator and no paraphraser."""
    import adapter

    make_loss = partial(
        losses.FactorTransfer,
        form=form,
        p=hyperparameters["p"],
        paraphrase_rate=None,
        translate=False,
    )
    inputs = {k.replace("factor", "feature"): x for k, x in inputs.items()}
    results = adapter.features(make_loss, {}, inputs, dtype)
    return {k.replace("feature", "factor"): x for k, x in results.items()}


def ft_attention(hyperparameters, inputs, dtype):
    import adapter

    adapter.fixed(hyperparameters, p1=2)
    make_loss = partial(
        losses.FactorTransfer, form="attention", p=hyperparameters["p2"]
    )
    return adapter.features(make_loss, {}, inputs, dtype)


def reviewkd_hcl(hyperparameters, inputs, dtype):
    import adapter

    make_loss = partial(losses.KnowledgeReview, fusion=None)
    return adapter.features(make_loss, hyperparameters, inputs, dtype)


GROUPS = {
    "reviewkd_hcl": reviewkd_hcl,
    "ft": ft,
    "ft_p2": partial(ft, form="paper"),
    "ft_attention": ft_attention,
    "ab": ab,
    "ab_weighted": ab_weighted,
    "ofd": ofd,
    "nst": nst,
    "vid": vid,
}
