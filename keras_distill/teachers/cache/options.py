"""What a `TeacherCache` keeps of the teacher, and how the teacher runs."""

import dataclasses
from collections.abc import Sequence

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_temperature
from keras_distill._arguments import one_of
from keras_distill.losses.structures import as_list
from keras_distill.losses.structures import validated_taps

DEFAULT_BATCH_SIZE = 128
SHARD_SAMPLES, SHARD_BYTES = 2**14, 2**26


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredOutputs:
    """What a `kd.TeacherCache` keeps of the teacher's outputs.

    Args:
        layer_names: Layers whose outputs the losses will read
            (`teacher_layer_name=` of the losses): a name or a list of names.
            They are stored whole, beside the teacher's output. Defaults to
            none.
        top_k: The number of logits to keep at each position of the output: the
            largest, and the probability of all others together, which `join`
            spreads evenly over them. Defaults to `None`: all logits.
        temperature: With `top_k`, the temperature of the losses. The
            probabilities of the kept classes are right at this temperature,
            and less so at others. Defaults to 1.0.
        dtype: `"float16"` rounds outputs to 1 part in 2048; `"float32"` does
            not. Outputs of a softmax or sigmoid are stored in float32 in any
            case: float16 rounds small probabilities to 0. Defaults to
            `"float16"`.

    Raises:
        ValueError: If `top_k`, `temperature` or `dtype` is out of range.

    Reference:
        Shen and Xing, "A Fast Knowledge Distillation Framework for Visual
        Recognition", 2022 (ECCV): "marginal smoothing", the largest outputs
        with the rest spread evenly.
    """

    layer_names: str | Sequence[str] | None = None
    top_k: int | None = None
    temperature: float = 1.0
    dtype: str = "float16"

    def __post_init__(self):
        validated_taps(self.layer_names, "layer_names")
        checked_integer("top_k", self.top_k, or_none=True)
        checked_temperature(self.temperature)
        one_of("dtype", self.dtype, ("float16", "float32"))

    @property
    def taps(self):
        """The names as a list."""
        return as_list(self.layer_names) if self.layer_names else []


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherRun:
    """How the teacher runs over the data of a `kd.TeacherCache`.

    Args:
        dtype: The precision that the teacher computes in, as `teacher_dtype`
            of `kd.Distiller`. Defaults to `None`, its own.
        batch_size: The number of samples in a forward pass, a multiple of the
            `group_size` of the views' mixup. Defaults to 128, or the next
            multiple above; for a teacher with `stateful=True` layers, that of
            its states.
        samples_per_shard: The number of samples in a file, a multiple of
            `batch_size`: at most so many are lost if the run is killed.
            Defaults to 16384, or fewer if they take more than 64 MiB.

    Raises:
        ValueError: If one of them is out of range.
    """

    dtype: str | None = None
    batch_size: int | None = None
    samples_per_shard: int | None = None

    def __post_init__(self):
        one_of("dtype", self.dtype, (None, "float32", "bfloat16", "float16"))
        for name in ("batch_size", "samples_per_shard"):
            checked_integer(name, getattr(self, name), or_none=True)

    def batch_size_for(self, views, streams=None):
        """Returns the batch size: whole groups of samples that mixup blends,
        or the `streams` that a stateful teacher is made for."""
        if streams is not None:
            if self.batch_size not in (None, streams):
                raise ValueError(
                    f"batch_size must be {streams}, which the teacher's states "
                    "(stateful=True) are made for, or left out. Received: "
                    f"batch_size={self.batch_size}"
                )
            return streams
        group = 1 if views is None else views.group_size
        if self.batch_size is None:
            return -(-DEFAULT_BATCH_SIZE // group) * group
        if self.batch_size % group:
            raise ValueError(
                f"batch_size must be a multiple of {group}, the group_size of "
                f"the views' mixup. Received: batch_size={self.batch_size}"
            )
        return self.batch_size

    def samples_per_shard_for(self, batch_size, bytes_per_sample):
        """Returns the samples of a file, a multiple of the batch size."""
        number = self.samples_per_shard
        if number is None:
            number = min(SHARD_SAMPLES, SHARD_BYTES // max(1, bytes_per_sample))
            return max(1, number // batch_size) * batch_size
        if number % batch_size:
            raise ValueError(
                "samples_per_shard must be a multiple of batch_size="
                f"{batch_size}. Received: samples_per_shard={number}"
            )
        return number
