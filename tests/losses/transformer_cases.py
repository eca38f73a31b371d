"""Rows of the transformers' losses for `test_all_losses.py`."""

import functools

from feature_cases import features

from keras_distill import losses

HIDDEN = functools.partial(features, losses.HiddenStates)
ATTENTION = functools.partial(
    features,
    losses.AttentionProbabilities,
    skip={"drop_in": "keras.distillation takes no taps inside of layers"},
)
RELATION = functools.partial(features, losses.AttentionRelation)


def within(name, *shapes):
    """Shapes of the projections of an attention layer."""
    return {f"{name}/{part}": s for part, s in zip(("query", "key"), shapes)}


CASES = {
    "hidden_states": HIDDEN((3, 4, 7), (3, 4, 5)),
    "hidden_states_vector": HIDDEN((3, 7), (3, 4)),
    "hidden_states_equal": HIDDEN((3, 4, 5), projection=None),
    "hidden_states_layers": HIDDEN(
        {"late": (3, 4, 7), "early": (3, 4, 6)},
        {"deep": (3, 4, 5), "above": (3, 4, 5)},
        projection="separate",
        layer_weights=[1.0, 0.3],
    ),
    "attention_probabilities": ATTENTION((3, 2, 4, 5)),
    "attention_probabilities_form": ATTENTION(
        (3, 2, 4, 4), form="probabilities", layer_mapping="last"
    ),
    "attention_probabilities_layers": ATTENTION(
        {"late/scores": (3, 2, 4, 4), "early/scores": (3, 2, 4, 4)},
        {"deep/scores": (3, 2, 4, 4), "above/scores": (3, 2, 4, 4)},
        layer_weights=[1.0, 0.3],
    ),
    "attention_relation": RELATION(
        within("t", (3, 4, 2, 6), (3, 4, 1, 8)),
        within("s", (3, 4, 3, 2), (3, 4, 2, 4)),
    ),
    "attention_relation_heads": RELATION(
        within("t", (3, 4, 2, 6), (3, 4, 12)),
        within("s", (3, 4, 8), (3, 4, 3, 4)),
        heads=4,
        projections=None,
        layer_weights=[1.0, 0.3],
    ),
}
