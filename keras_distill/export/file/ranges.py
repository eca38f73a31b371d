"""In which range values lie, and whether two ranges are of one kind of data.

A network calibrated on [0, 255] and run on [0, 1] gives nonsense without a
word; so does a phone that feeds what the training did not.
"""

import warnings

# How far values may reach outside of the other range, and how little of it
# they may use, in lengths of that range. [0, 1] is another range than [-1, 1]
# (half of it) and than [0, 255]; the tails of two samples of one distribution
# are the same range.
_OUTSIDE, _USED = 0.5, 0.55


def measured(samples, names):
    """-> dict name -> [smallest, largest] over a list of dicts of arrays."""
    return {
        name: [
            float(min(sample[name].min() for sample in samples)),
            float(max(sample[name].max() for sample in samples)),
        ]
        for name in names
    }


def differ(expected, seen):
    """Whether `seen` is another range than `expected`; each [low, high]."""
    length = expected[1] - expected[0]
    if length <= 0:
        return list(expected) != list(seen)
    outside = max(expected[0] - seen[0], seen[1] - expected[1]) / length
    return outside > _OUTSIDE or (seen[1] - seen[0]) / length < _USED


def warn_if_different(expected, seen, name, what, whose, stacklevel):
    """Warns with both ranges.

    Args:
        expected, seen: Ranges, [low, high].
        name: Of the input.
        what, whose: What `seen` and `expected` are ranges of.
        stacklevel: As of `warnings.warn`, called here.
    """
    if differ(expected, seen):
        warnings.warn(
            f"The {what} of the input '{name}' lies in {shown(seen)}, {whose} "
            f"in {shown(expected)}. Were both preprocessed alike?",
            stacklevel=stacklevel,
        )


def shown(limits):
    """-> "[0, 255]"."""
    return f"[{limits[0]:.4g}, {limits[1]:.4g}]"
