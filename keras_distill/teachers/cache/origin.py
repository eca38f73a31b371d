"""Which teacher and which views outputs come from, and whether they fit.

Five numbers travel with the outputs. Whatever was mapped over the data in
between, a Distiller sees from them that it trains with what it thinks it does.
"""

import hashlib
import json
from typing import NamedTuple

import keras
import numpy as np

from keras_distill._data.batch_fields import OF_TEACHERS
from keras_distill._keras.fingerprint import fingerprint
from keras_distill._keras.heads import final_activation
from keras_distill.losses.structures import as_list
from keras_distill.teachers.teacher_fingerprint import teacher_fingerprint

# Keras numbers the names of equal layers, and notes what a layer met once it
# was called.
_OF_THE_PROCESS = (
    "name",
    "build_config",
    "compile_config",
    "build_input_shape",
    "filepath",  # Of a black box, whose fingerprint is that of the file.
)
# What inference does not depend on, and where a class is defined.
_OF_TRAINING = ("trainable", "seed", "module")

_NO_SEED = _NOT_KNOWN = -1


class Origin(NamedTuple):
    """Where outputs come from, in five numbers.

    Attributes:
        teacher: A hash of the teacher's fingerprint.
        views: A hash of the configuration of what the teacher sees, without
            the seed.
        seed: The seed of the views, -1 if what the teacher sees has none.
        sigmoid: Whether the teacher's head ends in a sigmoid.
        computes: A hash of the teacher's configuration, -1 if not known.
    """

    teacher: int
    views: int
    seed: int
    sigmoid: int
    computes: int = _NOT_KNOWN


def check_cached(outputs, distiller):
    """Raises unless a Distiller can train with these outputs.

    Args:
        outputs: The `Sample.teacher_outputs` of a batch.
        distiller: The `Distiller`.

    Raises:
        ValueError: If they come from another teacher or other views, or lack
            a layer that a loss reads.
    """
    if OF_TEACHERS in outputs:
        for name, part in outputs[OF_TEACHERS].items():
            _check_one_of_several(name, part, distiller)
        return
    stored = _stored_headers(distiller)
    if stored:
        raise ValueError(
            "The data carries the outputs of one teacher without a name, but "
            f"this Distiller has several, and {list(stored)} are cached. Say "
            "which one it is: cache.join(dataset, "
            f"name='{next(iter(stored))}')."
        )
    if "origin" in outputs:
        check_origin(outputs["origin"], distiller)
    pair = distiller._networks()
    for name in pair.needs_teacher:
        loss = pair.losses[name]
        _check_stored(name, loss, outputs)


def origin_key(outputs):
    """Returns the origins in a batch's `Sample.teacher_outputs`, hashable.

    `None` if the outputs do not tell.
    """
    if outputs and OF_TEACHERS in outputs:
        parts = outputs[OF_TEACHERS].items()
        return tuple((name, origin_key(part)) for name, part in parts)
    if outputs is None or "origin" not in outputs:
        return None
    return np.unique(np.asarray(outputs["origin"]), axis=0).tobytes()


def teacher_threshold(outputs):
    """Returns where a head of one unit says yes; `None` if not known.

    See `metrics.decision_threshold`.
    """
    if outputs is None or "origin" not in outputs:
        return None
    return 0.5 if Origin(*outputs["origin"][0]).sigmoid else 0.0


def origin_of(header):
    """Returns the `Origin` of a cache, from its header."""
    views = dict(header["views"])
    seed = views.pop("seed", None)
    return Origin(
        _number(header["teacher"]["fingerprint"]),
        _number(json.dumps(views, sort_keys=True)),
        _NO_SEED if seed is None else _seed_number(seed),
        int(header["teacher"]["head"] == "sigmoid"),
        _computes(header["teacher"].get("computation")),
    )


def teacher_description(teacher):
    """Returns what a header says of the teacher."""
    return {
        "fingerprint": fingerprint(teacher),
        "head": final_activation(teacher),
        "computation": computation(teacher),
    }


def views_description(views):
    """Returns what a header says of the views.

    That is the configuration of what the teacher sees, and the weights of its
    preprocessing. Views that preprocess the student's input alone are none.
    """
    config = keras.saving.serialize_keras_object(views.teacher_config())
    config = json.loads(_json(_comparable(config)))
    description = {"class": type(views).__name__, **config}
    if description == {"class": "Preprocessing", "teacher": None}:
        return {"class": "Views"}
    part = views._teacher_part()
    if part is not None and part.weights:
        description["weights"] = fingerprint(part)
    return description


def check_origin(origins, distiller):
    """Raises unless outputs come from a Distiller's teacher and views.

    Args:
        origins: `(batch, 5)` integers, the `Origin` of every sample.
        distiller: The `Distiller`.

    Raises:
        ValueError: If the teacher, the views or the seed differs.
    """
    origin = _one_origin(origins)
    teacher = teacher_fingerprint(distiller)
    if teacher is not None and _number(teacher) != origin.teacher:
        raise ValueError(
            "The data carries outputs of another teacher than this "
            f"Distiller's, whose fingerprint is {teacher[:12]}... Build a "
            "cache of this teacher, or give the Distiller the one of the cache."
        )
    network = distiller._networks().teacher
    if teacher is not None and network is not None:
        computes = _computes(computation(network))
        if int(final_activation(network) == "sigmoid") != origin.sigmoid or (
            computes != origin.computes
            and _NOT_KNOWN not in (computes, origin.computes)
        ):
            raise ValueError(
                "The data carries outputs of another teacher than this "
                "Distiller's: the weights are the same, but its layers, head "
                "or preprocessing are not. Build a cache of this teacher, or "
                "give the Distiller the one of the cache."
            )
    _check_views(origin, distiller.views)


def _check_one_of_several(name, outputs, distiller):
    """Raises unless outputs come from the cache that a teacher is."""
    stored = _stored_headers(distiller)
    if name not in stored:
        raise ValueError(
            f"The data carries outputs of a teacher '{name}', but this "
            f"Distiller's cached teachers are {list(stored)}. Pass the cache "
            "as one of them, teacher={'" + name + "': cache, ...}, or join it "
            "under another name."
        )
    origin = _one_origin(outputs["origin"])
    if origin != origin_of(stored[name]):
        raise ValueError(
            f"The data carries outputs of the teacher '{name}' from another "
            "cache than the one that this Distiller was given under this "
            "name. Join that one."
        )
    _check_views(origin, distiller.views)


def _stored_headers(distiller):
    """Returns the headers of the cached ones of several teachers, by name."""
    teacher = distiller._networks().teacher
    members = getattr(teacher, "members", {}).items()
    return {k: m.header.value for k, m in members if hasattr(m, "header")}


def _one_origin(origins):
    rows = np.unique(np.asarray(origins), axis=0)
    if len(rows) != 1:
        raise ValueError(
            "The data mixes outputs of several teacher caches. Give the data "
            "of one cache.join(dataset) to one fit."
        )
    return Origin(*map(int, rows[0]))


def _check_views(origin, views):
    expected = origin_of(
        {
            "teacher": {"fingerprint": "", "head": None},
            "views": views_description(views),
        }
    )
    if expected.views != origin.views:
        raise ValueError(
            "The teacher outputs in the data were computed under other views "
            f"than this Distiller's {type(views).__name__}. Give "
            "kd.TeacherCache.build and kd.Distiller the same views= (the "
            "cache's are in its header.json)."
        )
    if expected.seed != origin.seed:
        raise ValueError(
            "The teacher outputs in the data were computed under views of "
            f"seed {origin.seed}, but this Distiller's {type(views).__name__} "
            f"has seed {expected.seed}. Give both the same seed=."
        )


def _check_stored(name, loss, outputs):
    wanted = loss.teacher_layer_name
    if wanted is None:
        missing = [] if "output" in outputs else ["the output"]
    else:
        missing = [tap for tap in as_list(wanted) if tap not in outputs["taps"]]
    if missing:
        raise ValueError(
            f"Distillation loss '{name}' reads {missing} of the teacher, but "
            f"the data carries {_stored(outputs)} only. Build the cache with "
            f"outputs=kd.teachers.StoredOutputs(layer_names="
            f"{as_list(wanted) if wanted else [...]})."
        )


def _stored(outputs):
    output = ["the output"] if "output" in outputs else []
    return [*output, *outputs["taps"]]


def _json(config):
    return json.dumps(config, sort_keys=True, default=str)


def _seed_number(seed):
    """Returns a seed as it is; one of another kind, of a user's own views, as
    a hash."""
    if isinstance(seed, int) and 0 <= seed < 2**63:
        return seed
    return _number(json.dumps(seed))


def _number(text):
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "little") % 2**31


def _computes(description):
    found = hash_here(description)
    return _NOT_KNOWN if found is None else _number(found)


# What a model computes with its weights, as far as its configuration says. A
# fingerprint of the weights does not see another activation, another Rescaling
# or other weights of an Ensemble's members.


def computation(model):
    """Returns a hash of a model's configuration, as a header has it.

    Args:
        model: A `keras.Model`.

    Returns:
        A dict of the version of Keras (another one may write other
        configurations) and the hash; `None` if the model has no configuration.
    """
    try:
        config = _without_training(
            _comparable(keras.saving.serialize_keras_object(model))
        )
        text = json.dumps(config, sort_keys=True)
    except Exception:  # `get_config` is the user's code.
        return None
    return {
        "keras": keras.__version__,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def hash_here(description):
    """Returns the hash if it can be compared with one of this process."""
    if not description or description["keras"] != keras.__version__:
        return None
    return description["sha256"]


def _comparable(config):
    """Returns a configuration without what differs between equal objects."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return config
        if "input_layers" in config and "layers" in config:
            config = _numbered(config)
        return {
            key: _comparable(value)
            for key, value in config.items()
            if key not in _OF_THE_PROCESS
        }
    if isinstance(config, (list, tuple)):
        # A Sequential gets its input layer when it is first called.
        return [
            _comparable(item)
            for item in config
            if not isinstance(item, dict)
            or item.get("class_name") != "InputLayer"
        ]
    return config


def _numbered(config):
    """Names the layers of a Functional model by their place."""
    places = {
        layer["name"]: f"layer {place}"
        for place, layer in enumerate(config["layers"])
    }

    def renamed(item):
        if isinstance(item, dict):
            return {key: renamed(value) for key, value in item.items()}
        if not isinstance(item, (list, tuple)):
            return item
        # A tensor is written as [layer, node, tensor].
        if len(item) == 3 and isinstance(item[0], str) and item[0] in places:
            return [places[item[0]], *item[1:]]
        return [renamed(value) for value in item]

    layers = [
        {**layer, "inbound_nodes": renamed(layer.get("inbound_nodes"))}
        for layer in config["layers"]
    ]
    ends = ("input_layers", "output_layers")
    return {**config, "layers": layers} | {k: renamed(config[k]) for k in ends}


def _without_training(config):
    if isinstance(config, dict):
        if config.get("class_name") == "__lambda__":
            return "__lambda__"  # Its bytes are those of one process.
        return {
            key: _without_training(value)
            for key, value in config.items()
            if key not in _OF_TRAINING
        }
    if isinstance(config, (list, tuple)):
        return [_without_training(item) for item in config]
    return config
