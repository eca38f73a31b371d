"""Samples that a network writes while it is trained, for its distillation.

`on_policy` is a pipeline for `fit`; `written` is the loop that continues
prompts, on every backend of Keras.
"""

import itertools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_integers
from keras_distill._arguments import checked_model
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_seed
from keras_distill._keras.heads import final_activation
from keras_distill._keras.layers import call_model
from keras_distill._keras.layers import recurrent_states
from keras_distill._shapes import sizes_agree


def on_policy(
    model: keras.Model,
    sequences: Any,
    *,
    prompt_length: int | Sequence[int] | None = None,
    length: int | None = None,
    fraction: float = 1.0,
    temperature: float = 1.0,
    sampler: Callable | None = None,
    end_token: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> Any:
    """Makes a pipeline of sequences that a network writes during training.

    In training, a language model sees text that people wrote; in use, it goes
    on from its own. Trained on its own samples, which the teacher scores, it
    learns what to do after its own mistakes. For each step of `fit`, this
    pipeline draws a batch of the sequences, keeps their beginnings as prompts,
    and lets the network continue them as it is at that step.

    The paper begins with a student that was trained on the data; a
    distillation with `fraction` 0 is one way to get it. Both networks must
    have the same tokens. `kd.Distiller` gets `alpha=1`: as labels, the
    student's own samples would teach it what it knows.

    To use a network that takes a dict, such as those of keras-hub, wrap it:
    `keras.Model(ids, network({"token_ids": ids, "padding_mask":
    keras.ops.ones_like(ids)}))`, with `ids = keras.Input((None,), dtype=
    "int32")`.

    Args:
        model: Who writes: the student, or the teacher (sequence-level
            distillation). It takes ids `(batch, steps)` and gives logits
            `(batch, steps, vocabulary)` of the next ids, each from the ids up
            to its place only.
        sequences: Ids `(n, tokens)`, integers: prompts, or whole texts. A
            network of a fixed length needs one id more in each than that, see
            `length`.
        prompt_length: How many ids at the beginning of the sequences are the
            prompt, a number or one for each sequence. Defaults to all of them.
        length: How many ids a sequence has in the end, with its prompt.
            Defaults to that of `sequences`.
        fraction: The probability, for each batch, that the network writes it;
            the others are the sequences themselves. Defaults to 1. The paper's
            lambda.
        temperature: The temperature of the softmax that ids are drawn from; 0
            takes the most probable id. Defaults to 1, as in the paper.
        sampler: `None`, or one of `keras_hub.samplers`, which draws in the
            place of `temperature`. Defaults to `None`.
        end_token: The id that ends a text. What follows it has no weight.
            Defaults to `None`: every text has `length` ids.
        batch_size: The number of sequences in a batch. Those that do not fill
            one are left out of the epoch. Defaults to 32.
        seed: The seed of the order and of what is drawn. Defaults to 0.

    Returns:
        A `tf.data.Dataset` of `(x, y, sample_weight)`, one pass over the
        sequences: x and y are the ids without the last and without the first,
        int32 `(batch_size, length - 1)`; the weight of each place is 1 if y
        belongs to the continuation, otherwise 0. The network writes a batch
        when it is read: with `steps_per_execution` above 1 or `prefetch`, a few
        steps before.

    Raises:
        ValueError: If the numbers do not fit each other, an id is not in the
            vocabulary, or the model gives probabilities, has states, or has
            another output.

    Example:

    ```python
    def network(width):
        return kd.models.transformer_language_model(
            50, length=8, width=width, depth=1, heads=2
        )

    text = np.random.default_rng(0).integers(0, 50, (64, 9))
    student = network(8)
    samples = kd.recipes.on_policy(student, text, prompt_length=2)
    distiller = kd.Distiller(
        student=student,
        teacher=network(16),
        distillation_losses=kd.losses.JensenShannon(beta=0.5),
        alpha=1.0,
    )
    distiller.compile(keras.optimizers.Adam(1e-3))
    distiller.fit(samples, epochs=2)
    ```

    Reference:
        - Agarwal et al., "On-Policy Distillation of Language Models: Learning
          from Self-Generated Mistakes" (GKD), 2024, algorithm 1.
        - Kim, Rush, "Sequence-Level Knowledge Distillation", 2016.
    """
    import tensorflow as tf

    from keras_distill.datasets.pipelines import with_fast_epoch_end

    checked_model("model", model)
    fraction = checked_number("fraction", fraction, "[0, 1]")
    temperature = checked_number("temperature", temperature, "[0, inf)")
    _check_sampler(sampler)
    checked_integer("end_token", end_token, least=0, or_none=True)
    checked_integer("batch_size", batch_size)
    checked_seed(seed)
    checked_integer("length", length, least=2, or_none=True)
    sequences = _checked_sequences(sequences, batch_size)
    tokens = sequences.shape[1]
    length = tokens if length is None else length
    prompts = _checked_prompts(prompt_length, len(sequences), tokens, length)
    if fraction < 1.0 and length > tokens:
        raise ValueError(
            "fraction below 1 takes batches of the sequences themselves, so "
            f"they must have all {length} ids. Received: fraction={fraction}, "
            f"length={length}, and sequences of {tokens} ids."
        )
    sequences = np.pad(
        sequences[:, :length], [(0, 0), (0, max(0, length - tokens))]
    )
    _check_network(model, sequences)
    # Compiled once for all batches.
    write = tf.function(
        lambda ids, prompts, draws: written(
            model, ids, prompts, draws, temperature, sampler
        ),
        autograph=False,
    )
    steps, epochs = len(sequences) // batch_size, itertools.count()

    def batches():
        generator = np.random.default_rng([seed, next(epochs)])
        order = generator.permutation(len(sequences))
        for step in range(steps):
            rows = order[step * batch_size : (step + 1) * batch_size]
            ids, beginnings = sequences[rows], prompts[rows]
            if generator.random() < fraction:
                draws = generator.random(ids.shape, "float32")
                ids = np.asarray(write(ids, beginnings, draws))
            yield _for_fit(ids, beginnings, end_token)

    places = (batch_size, length - 1)
    dataset = tf.data.Dataset.from_generator(
        batches,
        output_signature=(
            tf.TensorSpec(places, "int32"),
            tf.TensorSpec(places, "int32"),
            tf.TensorSpec(places, "float32"),
        ),
    )
    known = tf.data.experimental.assert_cardinality(steps)
    return with_fast_epoch_end(dataset.apply(known))


def written(model, ids, prompts, draws, temperature=1.0, sampler=None):
    """Lets a causal network continue prompts.

    Args:
        model: As in `on_policy`.
        ids: `(batch, length)`, int32: prompts, and anything after them.
        prompts: `(batch,)`, int32: how many of the ids are the prompt.
        draws: `(batch, length)`: numbers from [0, 1), one for each place. The
            id there is the first whose cumulative probability exceeds it.
        temperature: 0 takes the most probable id.
        sampler: As in `on_policy`.

    Returns:
        `(batch, length)`, int32.
    """
    length, first = ids.shape[1], ops.min(prompts)
    places = ops.arange(length, dtype="int32")
    kept = places < prompts[:, None]

    def logits_at(place, ids):
        """What the network expects at a place."""
        logits = call_model(model, ids[:, :-1])
        return ops.cast(ops.take(logits, place - 1, axis=1), "float32")

    if sampler is not None:
        return sampler(
            lambda ids, cache, place: (logits_at(place, ids), None, cache),
            ids,
            index=first,
            mask=kept,
        )

    def write(place, ids):
        logits = logits_at(place, ids)
        if temperature == 0.0:
            chosen = ops.argmax(logits, axis=-1)
        else:
            chosen = _drawn(
                logits / temperature, ops.take(draws, place, axis=1)
            )
        chosen = ops.cast(chosen, ids.dtype)[:, None]
        here = ops.logical_and(places == place, ops.logical_not(kept))
        return place + 1, ops.where(here, chosen, ids)

    _, ids = ops.while_loop(
        lambda place, ids: place < length, write, (first, ids)
    )
    return ids


def _drawn(logits, draws):
    """The inverse of the cumulative distribution, at one draw for each row."""
    cumulative = ops.cumsum(ops.softmax(logits, axis=-1), axis=-1)
    # The sum is 1 up to rounding.
    draws = draws[:, None] * cumulative[:, -1:]
    number = ops.sum(ops.cast(cumulative <= draws, "int32"), axis=-1)
    return ops.minimum(number, logits.shape[-1] - 1)


def _for_fit(ids, prompts, end_token):
    """Takes sequences apart into x, y and the weight of each place."""
    counts = np.arange(ids.shape[1]) >= prompts[:, None]
    if end_token is not None:
        ends = np.cumsum(counts & (ids == end_token), axis=1)
        counts[:, 1:] &= ends[:, :-1] == 0
    return ids[:, :-1], ids[:, 1:], counts[:, 1:].astype("float32")


def _check_sampler(sampler):
    if sampler is not None and not callable(sampler):
        raise TypeError(
            "sampler must be one of keras_hub.samplers, such as "
            f"keras_hub.samplers.TopKSampler(k=5), or None. Received: "
            f"{sampler!r}"
        )


def _checked_sequences(sequences, batch_size):
    found = np.asarray(sequences)
    if found.ndim != 2 or found.dtype.kind not in "iu" or not found.size:
        raise ValueError(
            "sequences must be an array of ids, integers of shape (n, tokens). "
            f"Received: shape {found.shape}, dtype {found.dtype}. Cut a long "
            "text into pieces of one length: text[:n * tokens].reshape(n, "
            "tokens)."
        )
    if len(found) < batch_size:
        raise ValueError(
            "sequences must be at least as many as batch_size. Received: "
            f"{len(found)} sequences, batch_size={batch_size}."
        )
    return found.astype("int32")


def _checked_prompts(prompt_length, count, tokens, length):
    """The length of each prompt, int32 `(count,)`."""
    hint = "how many ids of each sequence are the prompt"
    if prompt_length is None:
        prompt_length = tokens
    if np.ndim(prompt_length) == 0:
        prompt_length = checked_integer("prompt_length", prompt_length)
        prompts = np.full(count, prompt_length, "int32")
    else:
        prompts = np.array(
            checked_integers("prompt_length", prompt_length, hint=hint), "int32"
        )
    if len(prompts) != count or prompts.max() > min(tokens, length - 1):
        raise ValueError(
            f"prompt_length ({hint}) must be one number, or one for each of "
            f"the {count} sequences, from 1 to {min(tokens, length - 1)}: a "
            f"sequence has {tokens} ids, and at least one of length={length} "
            f"is to be written. Received: {len(prompts)} of them, up to "
            f"{prompts.max()}."
        )
    return prompts


def _check_network(model, sequences):
    if final_activation(model) is not None:
        raise ValueError(
            f"model: '{model.name}' ends in a {final_activation(model)}. "
            "Expected logits: give its last layer activation=None."
        )
    if recurrent_states(model):
        raise ValueError(
            f"model: '{model.name}' has recurrent layers with stateful=True, "
            "whose states would go on from one text to the next. Build it with "
            "stateful=False; set_weights() takes the weights of the other."
        )
    ids = ops.zeros((1, sequences.shape[1] - 1), "int32")
    inputs = getattr(model, "inputs", None) or [ids]
    if len(inputs) == 1 and not sizes_agree(inputs[0].shape[1:], ids.shape[1:]):
        raise ValueError(
            f"model: '{model.name}' takes inputs of shape "
            f"{tuple(inputs[0].shape)}, but its ids are of shape "
            f"{(None, *ids.shape[1:])}: one less than length="
            f"{sequences.shape[1]}, as the last id is a label only. Give "
            "another length=, or sequences of other length."
        )
    shape = tuple(getattr(call_model(model, ids), "shape", ()))
    if len(shape) != 3 or shape[:2] != tuple(ids.shape):
        raise ValueError(
            f"model: '{model.name}' must give logits (batch, steps, "
            f"vocabulary) for ids (batch, steps). Received: {shape} for "
            f"{tuple(ids.shape)}."
        )
    low, high = int(sequences.min()), int(sequences.max())
    if low < 0 or high >= shape[-1]:
        raise ValueError(
            f"sequences must hold ids from 0 to {shape[-1] - 1}, the "
            f"vocabulary of '{model.name}'. Received: {low} to {high}. Make "
            "them with the tokenizer that both networks share."
        )
