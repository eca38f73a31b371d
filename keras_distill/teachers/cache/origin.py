"""Of which teacher and which views outputs are, in five numbers.

They travel with the outputs, so that a Distiller can see, whatever was mapped
over the data in between, that what it trains with is what it thinks it is.
"""

import hashlib
import json
from typing import NamedTuple

import keras
import numpy as np

from keras_distill._keras.fingerprint import fingerprint
from keras_distill._keras.heads import final_activation
from keras_distill.teachers.cache.computation import computation
from keras_distill.teachers.cache.computation import hash_here
from keras_distill.teachers.cache.computation import plain
from keras_distill.teachers.teacher_fingerprint import teacher_fingerprint

_NO_SEED = _NOT_KNOWN = -1


class Origin(NamedTuple):
    """
    Attributes:
        teacher: Of its fingerprint.
        views: Of the configuration of what the teacher sees, but the seed.
        seed: The views' seed, -1 where what the teacher sees has none.
        sigmoid: Whether the teacher's head ends in a sigmoid.
        computes: Of the teacher's configuration, -1 where it is not known.
    """

    teacher: int
    views: int
    seed: int
    sigmoid: int
    computes: int = _NOT_KNOWN


def origin_of(header):
    """The `Origin` of a cache, from its header."""
    views = dict(header["views"])
    seed = views.pop("seed", None)
    return Origin(
        _number(header["teacher"]["fingerprint"]),
        _number(json.dumps(views, sort_keys=True)),
        _NO_SEED if seed is None else int(seed) % 2**31,
        int(header["teacher"]["head"] == "sigmoid"),
        _computes(header["teacher"].get("computation")),
    )


def _computes(described):
    found = hash_here(described)
    return _NOT_KNOWN if found is None else _number(found)


def teacher_description(teacher):
    """What a header says of the teacher."""
    return {
        "fingerprint": fingerprint(teacher),
        "head": final_activation(teacher),
        "computation": computation(teacher),
    }


def views_description(views):
    """What a header says of the views: the configuration of what the teacher
    sees, and the weights of its preprocessing."""
    config = plain(keras.saving.serialize_keras_object(views.teacher_config()))
    described = {"class": type(views).__name__, **json.loads(_json(config))}
    if views.weights:
        described["weights"] = fingerprint(views)
    return described


def check_origin(given, distiller):
    """Raises if outputs that travel with the data are not a Distiller's.

    Args:
        given: `(batch, 5)` integers, the `Origin` of every sample.
        distiller: The `Distiller`.

    Raises:
        ValueError: says which of teacher, views and seed differs.
    """
    rows = np.unique(np.asarray(given), axis=0)
    if len(rows) != 1:
        raise ValueError(
            "The data mixes outputs of several teacher caches. Give the data "
            "of one cache.join(dataset) to one fit."
        )
    given = Origin(*map(int, rows[0]))
    views = distiller.views
    teacher = teacher_fingerprint(distiller)
    if teacher is not None and _number(teacher) != given.teacher:
        raise ValueError(
            "The data carries outputs of another teacher than this "
            f"Distiller's, whose fingerprint is {teacher[:12]}... Build a "
            "cache of this teacher, or give the Distiller the one of the cache."
        )
    network = distiller._networks().teacher
    if teacher is not None and network is not None:
        computes = _computes(computation(network))
        if int(final_activation(network) == "sigmoid") != given.sigmoid or (
            computes != given.computes
            and _NOT_KNOWN not in (computes, given.computes)
        ):
            raise ValueError(
                "The data carries outputs of another teacher than this "
                "Distiller's: the weights are the same, but its layers, head "
                "or preprocessing are not. Build a cache of this teacher, or "
                "give the Distiller the one of the cache."
            )
    expected = origin_of(
        {
            "teacher": {"fingerprint": "", "head": None},
            "views": views_description(views),
        }
    )
    if expected.views != given.views:
        raise ValueError(
            "The teacher outputs in the data were computed under other views "
            f"than this Distiller's {type(views).__name__}. Give "
            "kd.TeacherCache.build and kd.Distiller the same views= (the "
            "cache's are in its header.json)."
        )
    if expected.seed != given.seed:
        raise ValueError(
            "The teacher outputs in the data were computed under views of "
            f"seed {given.seed}, but this Distiller's {type(views).__name__} "
            f"has seed {expected.seed}. Give both the same seed=."
        )


def _json(config):
    return json.dumps(config, sort_keys=True, default=str)


def _number(text):
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "little") % 2**31
