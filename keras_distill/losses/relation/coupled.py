"""Base classes of losses whose samples depend on the rest of the batch."""

from typing import Any

from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._shapes import sizes_agree
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.gathering import gather_replicas
from keras_distill.losses.ops.norms import over_norm
from keras_distill.losses.ops.pairwise import flat


class BatchCoupled:
    """Marks a loss as coupled, and lets it see the other replicas' samples.

    Args:
        cross_replica: Whether a sample is compared with those of the other
            replicas too. With `True`, N replicas give value and gradient of
            one device with the same global batch, at the price of sending the
            taps around. Defaults to `False`.
        **kwargs: See `DistillationLoss`.
    """

    batch_coupled = True

    def __init__(self, *, cross_replica: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.cross_replica = checked_boolean("cross_replica", cross_replica)

    def together(self, *arrays):
        """Gathers arrays, batch axis first, if `cross_replica` says so.

        Args:
            *arrays: Tensors, arrays or `None`.
        """
        if not self.cross_replica:
            return arrays
        return tuple(
            None if x is None else gather_replicas(ops.convert_to_tensor(x))
            for x in arrays
        )

    def get_config(self):
        return {**super().get_config(), "cross_replica": self.cross_replica}


class BatchCoupledLoss(BatchCoupled, LayerPairLoss):
    """Compares the relations between samples in teacher and student.

        loss = sum_l weight_l * coupled_loss(teacher_l, student_l)

    Subclasses implement `coupled_loss` of two matrices `(batch, width)`.

    Args:
        normalize: Divide each sample's features by their L2 norm first.
            Defaults to `False`.
        **kwargs: `cross_replica`, and those of `LayerPairLoss`.
    """

    joins_positions = True

    def __init__(self, *, normalize: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.normalize = checked_boolean("normalize", normalize)

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        teacher_shape, student_shape = (
            tuple(teacher_shape),
            tuple(student_shape),
        )
        problem = None
        if min(len(teacher_shape), len(student_shape)) < 2:
            problem = "expected (batch, ...) with at least two axes"
        elif not sizes_agree(teacher_shape[:1], student_shape[:1]):
            problem = "expected the same samples, so the same batch size"
        if problem:
            raise ValueError(
                f"{type(self).__name__} compares samples: {problem}; all other "
                f"axes may differ. Received: teacher {teacher_shape}, student "
                f"{student_shape}. Tap layers that keep the batch axis with "
                "teacher_layer_name= and student_layer_name=."
            )

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        teacher, student = (self._samples(x) for x in (teacher, student))
        return self.coupled_loss(index, teacher, student)

    def _samples(self, x):
        (x,) = self.together(flat(x))
        return over_norm(x) if self.normalize else x

    def coupled_loss(self, index: int, teacher: Any, student: Any) -> Any:
        """The loss of pair `index`: two matrices `(batch, width)`."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "normalize": self.normalize}
