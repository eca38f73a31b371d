"""The settings that `kd.choose` tries, the most promising first."""

import dataclasses

from keras_distill import losses
from keras_distill.recipes.rule import CROP_AREA
from keras_distill.recipes.rule import crops
from keras_distill.taps.suggestion import Suggestion
from keras_distill.taps.suggestion import suggest
from keras_distill.views import Views

# Below, a student does not see its images often enough to need other ones.
PASSES_FOR_CROPS = 100
# RepDistiller's weight, for the form of the published code.
ATTENTION_WEIGHT = 1000.0


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Settings of one distillation.

    Attributes:
        name: What the table calls it.
        temperature: That of `kd.losses.SoftTargets`; `None`: no distillation.
        alpha: As in `kd.Distiller`.
        learning_rate: Adam's, before half a cosine.
        views: `kd.views.Views` or `None`.
        taps: `None` or a `kd.taps.Suggestion`: attention maps are compared too.
        activation: That of `kd.losses.SoftTargets`: `"sigmoid"` for one unit.
        teacher_probabilities: As in `kd.losses.SoftTargets`.
        why: The reason to try it.
    """

    name: str
    temperature: float | None
    alpha: float
    learning_rate: float
    views: Views | None = None
    taps: object = None
    activation: str = "softmax"
    teacher_probabilities: bool = False
    why: str = ""

    def soft_targets(self):
        """The loss on the outputs."""
        return losses.SoftTargets(
            temperature=self.temperature or 1.0,
            activation=self.activation,
            teacher_probabilities=self.teacher_probabilities,
        )

    def distiller_arguments(self):
        """Arguments of `kd.Distiller` beside the student."""
        arguments = {"alpha": self.alpha, "views": self.views}
        if self.temperature is None:
            return {**arguments, "distillation_losses": []}
        arguments["distillation_losses"] = {"soft_targets": self.soft_targets()}
        if self.taps is not None:
            arguments["distillation_losses"]["attention"] = (
                losses.AttentionTransfer(
                    teacher_layer_name=self.taps.teacher_layer_names,
                    student_layer_name=self.taps.student_layer_names,
                    form="code",
                )
            )
            arguments["distillation_loss_weights"] = {
                "soft_targets": 1.0,
                "attention": ATTENTION_WEIGHT,
            }
        return arguments

    def settings(self):
        """What it sets, as plain values."""
        views = self.views
        return {
            "temperature": self.temperature,
            "alpha": self.alpha,
            "learning_rate": self.learning_rate,
            "crop_area": None if views is None else list(CROP_AREA),
            "attention": self.taps is not None,
        }


def candidates(
    rule,
    image_size,
    teacher,
    student,
    labels,
    units,
    teacher_probabilities=False,
):
    """Returns a list of `Candidate`, the rule's first.

    Args:
        rule: `kd.recipes.Settings`.
        image_size: (height, width) of the samples, `None` if they are no
            images.
        teacher: The teacher.
        student: The student.
        labels: Whether all samples have labels.
        units: The number of the student's outputs.
        teacher_probabilities: Whether the teacher returns probabilities.
    """
    cropped = None
    if image_size is not None and rule.passes >= PASSES_FOR_CROPS:
        cropped = crops(image_size, CROP_AREA)
    first = Candidate(
        "rule",
        rule.temperature,
        rule.alpha,
        rule.learning_rate,
        views=None if rule.crop_area is None else cropped,
        activation="sigmoid" if units == 1 else "softmax",
        teacher_probabilities=teacher_probabilities,
        why="the rule of kd.recipes.settings",
    )
    tried = [first]
    if first.views is not None:
        tried.append(
            _with(first, name="plain", views=None, why="images as they are")
        )
    elif cropped is not None:
        why = f"images are seen {rule.passes:.0f} times"
        tried.append(_with(first, name="crops", views=cropped, why=why))
    tried.append(
        _with(
            first,
            name="temperature",
            temperature=1.0 if rule.temperature > 1 else 4.0,
            why="the other temperature of the rule",
        )
    )
    if labels:
        tried.append(
            _with(
                first,
                name="alone",
                temperature=None,
                alpha=0.0,
                views=None,
                why="what the student reaches without a teacher",
            )
        )
    tried.append(
        _with(
            first,
            name="rate",
            learning_rate=3 * first.learning_rate,
            why="slow learners need a larger rate",
        )
    )
    taps = last_pair(teacher, student)
    if taps is not None:
        tried.append(
            _with(
                first,
                name="attention",
                taps=taps,
                why="the last feature maps are compared too",
            )
        )
    return tried


def _with(candidate, **changes):
    """A candidate with changes, and the alpha that goes with them."""
    changed = dataclasses.replace(candidate, **changes)
    if changed.views is not None and changed.temperature == 1:
        # A label may not be right for what is left of the image.
        changed = dataclasses.replace(changed, alpha=1.0)
    return changed


def last_pair(teacher, student):
    """Returns the last pair of layers, `None` if there is none to propose."""
    try:
        pairs = suggest(teacher, student)
    except ValueError:
        return None
    return Suggestion(pairs.pairs[-1:])
