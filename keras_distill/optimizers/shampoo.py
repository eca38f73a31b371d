"""Shampoo: an optimizer that knows how the entries of a gradient go together.

References: Gupta, Koren and Singer 2018, "Shampoo: Preconditioned Stochastic
Tensor Optimization"; Anil, Gupta, Koren, Regan and Singer 2020, "Scalable
Second Order Optimization for Deep Learning".
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_string
from keras_distill._arguments import one_of
from keras_distill._keras.optimizers import decays
from keras_distill._keras.optimizers import place_of
from keras_distill.optimizers.blocks import Blocks
from keras_distill.optimizers.blocks import inverse_root
from keras_distill.optimizers.blocks import outer_products
from keras_distill.optimizers.blocks import preconditioned

GRAFTING = (
    "sgd",
    "adagrad",
    "rmsprop",
    "adagrad_normalized",
    "rmsprop_normalized",
    "none",
)
# Keeps divisions by norms finite, as in the published code.
_TINY = 1e-16


@keras.saving.register_keras_serializable(package="keras_distill")
class Shampoo(keras.optimizers.Optimizer):
    """Shampoo, with blocks and grafting.

    For each dimension of a kernel, it keeps a matrix of how the gradient's
    slices go together, and multiplies the gradient by an inverse root of it.
    "A good teacher is patient and consistent" trains its longest distillations
    with it, in fewer steps than Adam.

    The direction is Shampoo's, and the length of the step is that of a simpler
    method (`grafting`), so that the simpler method's learning rates are a good
    start.

    Args:
        learning_rate: A float, a
            `keras.optimizers.schedules.LearningRateSchedule`, or a callable
            without arguments. Defaults to `0.1`, a usual rate of SGD, whose
            steps are as long by default.
        momentum: In [0, 1). Defaults to `0.9`.
        nesterov: Whether momentum is Nesterov's. Defaults to `True`.
        beta_2: Decay of the statistics, in (0, 1]; 1 sums them, as Gupta et
            al. Defaults to `0.999`.
        epsilon: What is added to the statistics' eigenvalues. Defaults to
            `1e-6`.
        relative_epsilon: Whether `epsilon` is a share of the largest
            eigenvalue. Defaults to `True`.
        block_size: Largest side of a preconditioner. Longer dimensions are cut
            into blocks. The cost of a root grows with its third power.
            Defaults to `128`.
        merge_dims: Neighbouring dimensions are joined while their product is
            at most this: a `(3, 3, 16, 32)` kernel becomes a matrix, and a
            `(64, 64)` kernel a vector of 32 blocks. `None` joins none.
            Defaults to `4096`.
        exponent: Statistics are raised to the power of `-1 / exponent`.
            Defaults to `None`, which is twice the number of (joined)
            dimensions.
        statistics_interval: Steps from one update of the statistics to the
            next. Defaults to `1`.
        preconditioner_interval: Steps from one computation of the roots to the
            next; it saves most of the time. Defaults to `1`.
        start_step: Before this step, the method of `grafting` trains alone.
            Defaults to `5`.
        grafting: Whose length a step has: `"sgd"`, `"adagrad"`, `"rmsprop"`,
            `"adagrad_normalized"` or `"rmsprop_normalized"` (of the gradient
            divided by its norm), or `"none"`: as long as Shampoo's own (SGD
            trains alone where a method of grafting would). A step's length is
            that of the whole variable. Defaults to `"sgd"`.
        max_dim: A variable with a longer dimension, such as an embedding, is
            trained by the method of `grafting`. Defaults to `4096`.
        initial_epsilon: What the statistics begin with, times the identity.
            With 0, roots that are used for several steps magnify directions
            that they have not seen. Defaults to `1e-6`.
        graft_epsilon: Added to the denominators of AdaGrad and RMSprop.
            Defaults to `1e-10`.
        moving_average: Whether momentum averages steps, instead of summing
            them. Defaults to `False`.
        weight_decay: Defaults to `None`.
        decoupled_weight_decay: Whether weights decay as in AdamW. If not, the
            decay is added to the step before the momentum. Defaults to `True`.
        name: Name of the optimizer. Defaults to `"shampoo"`.
        **kwargs: Other arguments of `keras.optimizers.Optimizer`, such as
            `clipnorm`, `use_ema` and `gradient_accumulation_steps`.

    Defaults without a reason here are those of the published code.

    Raises:
        ValueError: If an argument is out of its range; if `grafting="none"`,
            `relative_epsilon` and an interval above 1 meet: old roots magnify
            directions that they have not seen, without a bound.

    Example:

    ```python
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 3000)
    optimizer = kd.optimizers.Shampoo(schedule, preconditioner_interval=10)
    ```
    """

    def __init__(
        self,
        learning_rate: float | Callable = 0.1,
        momentum: float = 0.9,
        nesterov: bool = True,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        relative_epsilon: bool = True,
        block_size: int = 128,
        merge_dims: int | None = 4096,
        exponent: int | None = None,
        statistics_interval: int = 1,
        preconditioner_interval: int = 1,
        start_step: int = 5,
        grafting: str = "sgd",
        max_dim: int = 4096,
        initial_epsilon: float = 1e-6,
        graft_epsilon: float = 1e-10,
        moving_average: bool = False,
        weight_decay: float | None = None,
        decoupled_weight_decay: bool = True,
        name: str = "shampoo",
        **kwargs: Any,
    ) -> None:
        checked_number("weight_decay", weight_decay, "[0, inf)", or_none=True)
        checked_boolean("decoupled_weight_decay", decoupled_weight_decay)
        if not callable(learning_rate):
            # A schedule may have ended at 0 when the model was saved.
            learning_rate = checked_number(
                "learning_rate", learning_rate, "[0, inf)"
            )
        super().__init__(
            learning_rate,
            weight_decay=weight_decay if decoupled_weight_decay else None,
            name=checked_string("name", name),
            **kwargs,
        )
        self.momentum = checked_number("momentum", momentum, "[0, 1)")
        self.nesterov = checked_boolean("nesterov", nesterov)
        self.beta_2 = checked_number("beta_2", beta_2, "(0, 1]")
        self.epsilon = checked_number("epsilon", epsilon)
        self.relative_epsilon = checked_boolean(
            "relative_epsilon", relative_epsilon
        )
        self.block_size = checked_integer("block_size", block_size)
        self.merge_dims = checked_integer(
            "merge_dims", merge_dims, or_none=True
        )
        self.exponent = checked_integer("exponent", exponent, or_none=True)
        self.statistics_interval = checked_integer(
            "statistics_interval", statistics_interval
        )
        self.preconditioner_interval = checked_integer(
            "preconditioner_interval", preconditioner_interval
        )
        self.start_step = checked_integer("start_step", start_step, 0)
        self.grafting = one_of("grafting", grafting, GRAFTING)
        self.max_dim = checked_integer("max_dim", max_dim)
        self.initial_epsilon = checked_number(
            "initial_epsilon", initial_epsilon, "[0, inf)"
        )
        self.graft_epsilon = checked_number("graft_epsilon", graft_epsilon)
        self.moving_average = checked_boolean("moving_average", moving_average)
        self.decoupled_weight_decay = decoupled_weight_decay
        # Keras applies `weight_decay`; this one is added to the step.
        self._added_decay = 0.0 if decoupled_weight_decay else weight_decay
        intervals = statistics_interval, preconditioner_interval
        if grafting == "none" and relative_epsilon and max(intervals) > 1:
            raise ValueError(
                "grafting='none' needs statistics_interval=1 and "
                "preconditioner_interval=1, since old roots magnify "
                f"directions that they have not seen. Received: {intervals}. "
                "Choose another grafting, or an absolute epsilon "
                "(relative_epsilon=False)."
            )

    def build(self, variables: list) -> None:
        """Creates the statistics, roots and momenta of all variables."""
        if self.built:
            return
        super().build(variables)
        self._blocks = [self._cut(variable) for variable in variables]
        self._statistics, self._roots = [], []
        for variable, blocks in zip(variables, self._blocks):
            self._statistics.append(
                self._matrices(variable, blocks, "statistics")
            )
            self._roots.append(self._matrices(variable, blocks, "root"))
        averages = self.grafting not in ("sgd", "none")
        self._squares = self._if(variables, averages, "squares")
        self._momenta = self._if(variables, self.momentum, "momentum")
        warms_up = self.momentum and self.start_step
        self._graft_momenta = self._if(variables, warms_up, "graft_momentum")

    def update_step(
        self, gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        """Updates one variable."""
        place = place_of(self, variable)
        dtype = _computed_in(variable)
        # Dense, where an embedding gives rows.
        gradient = ops.add(ops.zeros(variable.shape, gradient.dtype), gradient)
        gradient = ops.cast(gradient, dtype)
        graft = self._graft(gradient, self._squares[place])
        step = graft
        blocks = self._blocks[place]
        if blocks is not None:
            direction = self._direction(gradient, blocks, place)
            step = direction
            if self.grafting != "none":
                step *= _norm(graft) / (_norm(direction) + _TINY)
        if self._added_decay and decays(self, variable):
            decay = self._added_decay * ops.cast(variable, dtype)
            step, graft = step + decay, graft + decay
        step = self._with_momentum(step, self._momenta[place])
        if self.start_step:
            graft = self._with_momentum(graft, self._graft_momenta[place])
            warm = ops.greater_equal(self.iterations, self.start_step)
            step = ops.where(warm, step, graft)
        step *= ops.cast(learning_rate, dtype)
        self.assign_sub(variable, ops.cast(step, variable.dtype))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        names = (
            "momentum nesterov beta_2 epsilon relative_epsilon block_size "
            "merge_dims exponent statistics_interval preconditioner_interval "
            "start_step grafting max_dim initial_epsilon graft_epsilon "
            "moving_average decoupled_weight_decay"
        )
        own = {name: getattr(self, name) for name in names.split()}
        if not self.decoupled_weight_decay:
            own["weight_decay"] = self._added_decay
        return {**super().get_config(), **own}

    # What is kept for each variable.

    def _cut(self, variable):
        """The `Blocks` of a variable; `None` if grafting trains it alone."""
        shape = tuple(variable.shape)
        if not shape or max(shape) > self.max_dim:
            return None
        return Blocks(shape, self.merge_dims, self.block_size)

    def _matrices(self, variable, blocks, name):
        """A `(count, side, side)` variable for each dimension of the blocks."""
        if blocks is None:
            return []
        scale = self.initial_epsilon if name == "statistics" else 1.0

        def identity(shape, dtype=None):
            eye = scale * ops.eye(shape[-1], dtype=dtype)
            return ops.broadcast_to(eye, shape)

        return [
            self.add_variable(
                (blocks.count, side, side),
                initializer=identity,
                dtype=_computed_in(variable),
                name=f"{variable.name}_{name}_{axis}",
            )
            for axis, side in enumerate(blocks.sides)
        ]

    def _if(self, variables, needed, name):
        """A variable like each, or `None` for each."""
        if not needed:
            return [None] * len(variables)
        return self.add_optimizer_variables(variables, name)

    # The parts of a step.

    def _every(self, interval, new, old):
        """`new()` at each `interval`-th step, else the old value."""
        if interval == 1:
            return new()
        due = ops.equal(ops.mod(self.iterations, interval), 0)
        return ops.cond(due, new, lambda: ops.convert_to_tensor(old))

    @property
    def _share(self):
        """What a new value counts in averages by `beta_2`."""
        return 1.0 - self.beta_2 if self.beta_2 < 1.0 else 1.0

    def _direction(self, gradient, blocks, place):
        """Updates statistics and roots; returns the preconditioned gradient."""
        cut = blocks.split(gradient)
        power = self.exponent or 2 * len(blocks.sides)
        statistics, roots = self._statistics[place], self._roots[place]
        for axis, (kept, root) in enumerate(zip(statistics, roots)):

            def updated():
                new = self._share * outer_products(cut, axis)
                return self.beta_2 * ops.convert_to_tensor(kept) + new

            new = self._every(self.statistics_interval, updated, kept)
            self.assign(kept, new)

            def computed():
                return inverse_root(
                    new, power, self.epsilon, self.relative_epsilon
                )

            self.assign(
                root, self._every(self.preconditioner_interval, computed, root)
            )
        current = [ops.convert_to_tensor(root) for root in roots]
        return blocks.join(preconditioned(cut, current))

    def _graft(self, gradient, squares):
        """The step of the simpler method."""
        if squares is None:
            return gradient
        if self.grafting.endswith("normalized"):
            gradient = gradient / (_norm(gradient) + _TINY)
        share, kept = 1.0, 1.0
        if self.grafting.startswith("rmsprop"):
            share, kept = self._share, self.beta_2
        new = kept * ops.cast(squares, gradient.dtype)
        new += share * ops.square(gradient)
        self.assign(squares, ops.cast(new, squares.dtype))
        return gradient / (ops.sqrt(new) + self.graft_epsilon)

    def _with_momentum(self, step, momentum):
        if momentum is None:
            return step
        share = 1.0 - self.momentum if self.moving_average else 1.0
        new = self.momentum * ops.cast(momentum, step.dtype) + share * step
        self.assign(momentum, ops.cast(new, momentum.dtype))
        return share * step + self.momentum * new if self.nesterov else new


def _computed_in(variable):
    """The dtype of matrices and steps: float32 at least."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return dtype if dtype == "float64" else "float32"


def _norm(x):
    return ops.sqrt(ops.sum(ops.square(x)))
