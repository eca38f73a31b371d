"""The reference groups of the feature losses: see `adapter.py`."""

from functools import partial

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


GROUPS = {
    "nst": nst,
    "vid": vid,
}
