"""DeiT: a vision transformer with a token and a head for its teacher."""

import keras

from keras_distill._arguments import checked_model
from keras_distill._arguments import checked_string
from keras_distill._keras.graph import shows_its_graph
from keras_distill._keras.graph import uncompiled
from keras_distill._keras.heads import final_activation
from keras_distill.models.tokens import DistillationToken
from keras_distill.models.tokens import JoinedHeads


def with_distillation_token(
    model: keras.Model,
    tokens_layer_name: str = "tokens",
    encoded_layer_name: str = "encoded",
    name: str | None = None,
) -> keras.Model:
    """Gives a vision transformer a second token and head, as DeiT has them.

    The new token joins the others before the first block, sees all of them,
    and is read by a new head, `"distillation_logits"`. The teacher teaches
    this head, and the labels teach the one that the model had:

        training:   output = logits                 -> compile(loss=...)
                    "distillation_logits"           -> distillation losses
        inference:  output = (logits + distillation logits) / 2

    So `evaluate`, `predict`, `export` and `verify` use the mean of both heads,
    and one network with one output ships. The metrics of training are those of
    the first head alone.

    - Hard distillation (the paper's): `kd.losses.HardLabels(
      student_layer_name="distillation_logits")` with `alpha=0.5`.
    - Soft distillation: `kd.losses.SoftTargets(temperature=3.0,
      student_layer_name="distillation_logits")` with `alpha=0.1`.

    The paper puts the token second and adds the heads' probabilities; its code
    averages logits, as here. Here the token comes last, which attention does
    not see, and its position is part of it. So DeiT-Ti has 5,910,608 weights
    instead of 5,910,800.

    Args:
        model: A Functional transformer that gives logits, with blocks for any
            number of tokens, such as `kd.models.vision_transformer`. The new
            model shares its layers: train only one of them.
        tokens_layer_name: The layer whose output `(batch, tokens, width)` the
            first block reads. Defaults to `"tokens"`.
        encoded_layer_name: The layer whose output `(batch, tokens, width)` the
            head reads, or a pooling before it. What follows does not see the
            new token. Defaults to `"encoded"`.
        name: Defaults to that of the model with `"_distilled"`.

    Returns:
        A `keras.Model` with the model's input, to logits `(batch, classes)`.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: for a model without a graph of its layers, with several
            outputs or probabilities, or layers that do not give tokens.

    Example:

    ```python
    student = kd.models.with_distillation_token(
        kd.models.vision_transformer(
            (8, 8, 3), classes=4, patch_size=2, width=16, depth=1, heads=2
        )
    )
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.HardLabels(
            student_layer_name="distillation_logits"
        ),
    )
    distiller.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    ```

    Reference:
        Touvron, Cord, Douze, Massa, Sablayrolles and Jégou, "Training
        data-efficient image transformers & distillation through attention",
        ICML 2021, section 4, and its code, facebookresearch/deit.
    """
    _check(model)
    tokens = _layer(model, "tokens_layer_name", tokens_layer_name)
    encoded = _layer(model, "encoded_layer_name", encoded_layer_name)
    last = []

    def call(operation, *args, **kwargs):
        output = operation(*args, **kwargs)
        if operation is tokens:
            _check_tokens(output, "tokens_layer_name", tokens)
            return DistillationToken(name="distillation_token")(output)
        if operation is encoded:
            _check_tokens(output, "encoded_layer_name", encoded)
            last.append(output[:, -1])
            return output[:, :-1]
        return output

    joined = keras.models.clone_model(
        uncompiled(model),
        clone_function=lambda layer: layer,
        call_function=call,
    )
    logits = joined.output
    distilled = keras.layers.Dense(
        logits.shape[-1],
        dtype=encoded.dtype_policy,
        name="distillation_logits",
    )(last[0])
    output = JoinedHeads(name="mean_logits")([logits, distilled])
    return keras.Model(
        joined.input, output, name=name or f"{model.name}_distilled"
    )


def _check(model):
    checked_model("model", model)
    if not shows_its_graph(model) or isinstance(model, keras.Sequential):
        raise ValueError(
            "model must be a Functional model, so that a token can be put "
            f"between its layers. Received: '{model.name}', a "
            f"{type(model).__name__}"
        )
    shape = getattr(model.output, "shape", ())
    activation = final_activation(model)
    if len(shape) != 2 or activation is not None:
        found = activation or keras.tree.map_structure(
            lambda tensor: tuple(tensor.shape), model.output
        )
        raise ValueError(
            "model must have one output, logits (batch, classes). Received: "
            f"'{model.name}', whose output is {found}"
        )


def _layer(model, argument, layer_name):
    checked_string(argument, layer_name)
    layers = {layer.name: layer for layer in model.layers}
    if layer_name not in layers:
        raise ValueError(
            f"{argument}: '{model.name}' has no layer '{layer_name}' of its "
            "own (a layer inside another model does not count). Its layers "
            f"are {list(layers)[:20]}."
        )
    return layers[layer_name]


def _check_tokens(output, argument, layer):
    if len(getattr(output, "shape", ())) != 3:
        shape = keras.tree.map_structure(
            lambda tensor: tuple(tensor.shape), output
        )
        raise ValueError(
            f"{argument}: '{layer.name}' must give tokens, (batch, tokens, "
            f"width). Its output is {shape}."
        )
