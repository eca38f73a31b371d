"""Random numbers that are functions of their coordinates.

A draw is a hash of (seed, epoch, sample index, number of the draw). It stays
the same in another process, on another number of replicas, in another order of
the samples, compiled or not. Nothing has to be saved to draw it again.
"""

import keras
import numpy as np
from keras import ops

# The increment of splitmix: 2^32 divided by the golden ratio. It separates
# coordinates that differ by little.
_INCREMENT = 0x9E3779B9


def hashed(*coordinates):
    """Mixes integers into uniformly distributed 32-bit integers.

    Each coordinate goes through the finalizer "lowbias32" of Wellons (2018),
    chained: h = mix(h + increment + coordinate), arithmetic modulo 2^32.

    Args:
        *coordinates: Integers or integer tensors whose shapes broadcast.

    Returns:
        A uint32 tensor of the broadcast shape.
    """
    state = _unsigned(0)
    for coordinate in coordinates:
        state = _mixed(state + _unsigned(_INCREMENT) + _unsigned(coordinate))
    return state


def uniform(*coordinates):
    """Draws from U[0, 1): the upper 24 bits of `hashed`, exact in float32."""
    bits = ops.right_shift(hashed(*coordinates), _unsigned(8))
    return ops.cast(bits, "float32") * (1.0 / 2**24)


def bernoulli(*coordinates):
    """Fair coins, a bool tensor."""
    return hashed(*coordinates) >= _unsigned(2**31)


def quarters(*coordinates):
    """Draws 0, 1, 2 or 3, int32: the upper 2 bits of `hashed`."""
    bits = ops.right_shift(hashed(*coordinates), _unsigned(30))
    return ops.cast(bits, "int32")


def seeds(*coordinates):
    """Pairs of seeds `(..., 2)` int32 for the stateless random functions."""
    pair = [hashed(*coordinates, number) for number in range(2)]
    # 31 bits: a sign would be cast differently on different devices.
    pair = [ops.right_shift(bits, _unsigned(1)) for bits in pair]
    return ops.cast(ops.stack(pair, axis=-1), "int32")


class SymmetricBeta:
    """Draws from Beta(a, a), by its inverse distribution function.

    TensorFlow's sampler does not compile on every device, and it draws a
    varying number of times. The table used here is exact to 1e-3 for a up to 2
    (mixup is published with 0.1 to 1). a = 1, the uniform distribution, needs
    none.

    Args:
        concentration: a, a positive number.
    """

    _SIZE = 8192

    def __init__(self, concentration):
        self.concentration = concentration
        self._table = None
        if concentration != 1.0:
            self._table = lower_quantiles(concentration, self._SIZE)

    def __call__(self, probability):
        """The quantiles of a float32 tensor of probabilities in [0, 1)."""
        if self._table is None:
            return probability
        # The halves are symmetric, and floats are finer near 0 than near 1.
        lower = ops.minimum(probability, 1.0 - probability)
        place = lower * (2 * self._SIZE)
        left = ops.minimum(ops.cast(place, "int32"), self._SIZE - 1)
        table = ops.convert_to_tensor(self._table, "float32")
        start, end = ops.take(table, left), ops.take(table, left + 1)
        rest = place - ops.cast(left, "float32")
        # The table holds x^a, which is almost linear in the probability.
        power = start + rest * (end - start)
        value = power ** (1.0 / self.concentration)
        return ops.where(probability < 0.5, value, 1.0 - value)


def lower_quantiles(concentration, size):
    """Quantiles of Beta(a, a) at `size` + 1 probabilities from 0 to 1/2.

    As a function of u = x^a, the density (1 - x)^(a - 1) / a is smooth up to
    x = 1/2, however steep it is in x near 0.

    Returns:
        A float64 NumPy array of x^a, not of x.
    """
    u = np.linspace(0.0, 0.5**concentration, 64 * size + 1)
    density = (1.0 - u ** (1.0 / concentration)) ** (concentration - 1.0)
    areas = (density[1:] + density[:-1]) / 2.0
    total = np.concatenate([[0.0], np.cumsum(areas)])
    total *= 0.5 / total[-1]
    return np.interp(np.linspace(0.0, 0.5, size + 1), total, u)


def _mixed(x):
    x = ops.bitwise_xor(x, ops.right_shift(x, _unsigned(16)))
    x = x * _unsigned(0x7FEB352D)
    x = ops.bitwise_xor(x, ops.right_shift(x, _unsigned(15)))
    x = x * _unsigned(0x846CA68B)
    return ops.bitwise_xor(x, ops.right_shift(x, _unsigned(16)))


def _unsigned(x):
    if isinstance(x, int):
        return ops.convert_to_tensor(x % 2**32, "uint32")
    if keras.backend.standardize_dtype(x.dtype) == "uint32":
        return x
    return ops.cast(x, "uint32")
