"""`born_again`: networks that are taught by the one before them."""

import os
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_mapping
from keras_distill._arguments import checked_models
from keras_distill._keras.fingerprint import fingerprint
from keras_distill.distillers import checks
from keras_distill.distillers.generations import networks
from keras_distill.distillers.generations.directory import Directory
from keras_distill.distillers.generations.directory import describe
from keras_distill.distillers.generations.result import Generations
from keras_distill.distillers.generations.training import Training
from keras_distill.losses.response.soft_targets import SoftTargets
from keras_distill.teachers.roles import as_teacher

StudentBuilder = Callable[[], keras.Model]


def born_again(
    build_student: StudentBuilder | Sequence[StudentBuilder],
    dataset: Any,
    *,
    generations: int,
    teacher: keras.Model | Sequence[keras.Model] | None = None,
    distiller_options: dict[str, Any] | None = None,
    compile_options: dict[str, Any] | None = None,
    shared_layers: Sequence[str] | dict[str, str] | None = None,
    seed: int = 0,
    directory: str | os.PathLike | None = None,
    **fit_options: Any,
) -> Generations:
    """Trains generations of networks, each taught by the one before it.

        generation 0: L_S                          (or the teacher you give)
        generation k: alpha * L(generation k-1, generation k)
                      + (1 - alpha) * L_S          from fresh weights

    Each generation is one `kd.Distiller(**distiller_options)`, one
    `compile(**compile_options)` and one `fit(**fit_options)`. The variants of
    the paper:

    | variant | `distillation_losses` | `alpha` |
    |---|---|---|
    | BAN | `kd.losses.SoftTargets()` | 1 |
    | BAN+L, with labels | `kd.losses.SoftTargets()` | 0.5 |
    | CWTM | `kd.losses.ConfidenceWeightedByTeacherMax()` | 1 |
    | DKPP | `kd.losses.DarkKnowledgeWithPermutedPredictions()` | 1 |

    The paper adds the two terms of BAN+L with weight 1 each, which is twice
    the objective with alpha 0.5.

    Args:
        build_student: A function without arguments that returns a new
            `keras.Model` with logits as output, or a list of such functions,
            one for each network to train (generation 0 first, if you give no
            teacher).
        dataset: A `tf.data.Dataset` or `PyDataset` of batches, or a function
            `(generation, first_epoch)` that returns one (`first_epoch` is not
            0 when a killed run goes on). A dataset that ends is repeated if
            `steps_per_epoch` is not its length.
        generations: How many generations are taught, >= 1. Generation 0 does
            not count.
        teacher: The teacher of the first generation: a trained `keras.Model`
            or a list of them (`kd.Ensemble`). Defaults to a network trained
            from labels, generation 0.
        distiller_options: A dict of arguments of `kd.Distiller`:
            `distillation_losses` (defaults to `kd.losses.SoftTargets()`, the
            paper's; each generation gets copies), `alpha` (defaults to 1, the
            paper's BAN), `distillation_loss_weights`, `teacher_dtype`,
            `teacher_batch_size`.
        compile_options: A dict of arguments of `compile`: `optimizer` (a name,
            an optimizer that was not used yet, or a function that returns one;
            defaults to `"adam"`), `loss` (required without a teacher or if
            alpha < 1), `metrics`, and so on. Each generation gets new
            optimizers and metrics.
        shared_layers: Names of layers that every generation takes over from
            the first teacher and freezes. The paper's DenseNet -> ResNet takes
            the first convolution and the output layer. If the names differ,
            a dict student's name -> teacher's name.
        seed: An integer >= 0, from which each generation makes its own seeds.
            They are set globally, as `keras.utils.set_random_seed` does.
            Defaults to 0.
        directory: A folder for finished generations
            (`generation_<k>.keras`), for the state of the running one after
            each epoch, and for TensorBoard logs. The same call goes on where
            it was killed. `generations` may then be larger; other settings
            are refused. The result is the same as without interruption if the
            order of the data depends only on the epoch, as that of
            `kd.datasets.batches`, and the callbacks keep no state.
        **fit_options: Arguments of `fit`, such as `epochs` (of each
            generation), `steps_per_epoch`, `verbose` and `class_weight`. With
            `validation_data` every network is evaluated after each epoch and
            at its end. `callbacks` is a function of the generation's number
            that returns a list of new callbacks, whose `model` is the
            `Distiller`.

    Returns:
        A `Generations`: `models`, `histories` and `metrics` by number (0 is
        the teacher of the first generation) and `ensemble(k)`. `print` shows a
        table.

    Raises:
        TypeError, ValueError: Before any training, for arguments that do not
            fit, networks that are not new or share weights, shared layers of
            different shapes, losses that deploy the teacher's classifier, and
            a directory with other settings (the message says which differ).

    Example:

    ```python
    def build_student():
        return kd.models.cifar_resnet(8, (8, 8, 3), classes=4)


    trained = kd.born_again(
        build_student,
        dataset,
        generations=2,
        compile_options={
            "loss": keras.losses.SparseCategoricalCrossentropy(
                from_logits=True
            ),
            "metrics": ["accuracy"],
        },
        validation_data=validation_data,
    )
    print(trained)
    trained.ensemble().save("ensemble.keras")
    ```

    Reference: Furlanello, Lipton, Tschannen, Itti and Anandkumar 2018,
    "Born-Again Neural Networks", section 3.
    """
    checks.check_backend()
    checked_integer("generations", generations)
    checked_models("teacher", teacher, or_none=True)
    for argument, options in (
        ("distiller_options", distiller_options),
        ("compile_options", compile_options),
    ):
        if options is not None:
            checked_mapping(argument, options)
    if directory is not None:
        directory = as_path("directory", directory)
    numbers = range(0 if teacher is None else 1, generations + 1)
    training = Training(
        dataset=dataset,
        distiller_options={
            "distillation_losses": SoftTargets(),
            "alpha": 1.0,
            **(distiller_options or {}),
        },
        compile_options={"optimizer": "adam", **(compile_options or {})},
        fit_options=fit_options,
        seed=seed,
    )
    functions = networks.builders(build_student, numbers)
    shared = networks.SharedLayers(shared_layers)
    training.check(from_labels=teacher is None)
    teacher = as_teacher(teacher)
    if teacher is not None:
        checks.check_teacher(teacher, None)
    students = networks.built(
        functions,
        seed,
        teacher,
        lambda: training.first_batch(numbers[0]),
    )
    models = students if teacher is None else {0: teacher, **students}
    _check_pairs(models, training, shared)
    folder = None
    if directory is not None:
        settings = {
            **training.settings(),
            "shared_layers": shared.names,
            "teacher": None if teacher is None else fingerprint(teacher),
        }
        lines = {number: describe(n) for number, n in students.items()}
        folder = Directory(directory, settings, lines)

    histories: dict[int, dict] = {}
    metrics: dict[int, dict] = {}
    if teacher is not None:
        histories[0] = {}
        metrics[0] = training.evaluate(teacher, "teacher")
    for number in numbers:
        network = students[number]
        if number > 0:
            shared.copy(network, models[0])
        before = models.get(number - 1)
        results = folder and folder.load(number, network)
        if not results:
            done = folder.backup(number).initial_epoch if folder else 0
            _announce(number, generations, network, before, done, training)
            history = training.fit(number, network, before, folder)
            results = history, training.evaluate(network)
            if folder:
                folder.save(number, network, *results)
        elif training.verbose:
            print(f"generation {number}/{generations}: done before")
        histories[number], metrics[number] = results
    order = sorted(models)
    return Generations(
        [models[n] for n in order],
        [histories[n] for n in order],
        [metrics[n] for n in order],
        plain=teacher is None,
    )


def _check_pairs(models, training, shared):
    """Makes every Distiller once, before any training, for its checks."""
    for number, network in models.items():
        if number == 0:
            continue
        try:
            shared.check(network, models[0])
            training.compiled(network, models[number - 1])
        except (TypeError, ValueError) as error:
            error.add_note(f"(in generation {number} of kd.born_again)")
            raise


def _announce(number, generations, network, teacher, done, training):
    """Says what is trained, before its progress bar."""
    if not training.verbose:
        return
    taught = "from labels" if number == 0 else f"taught by '{teacher.name}'"
    if number > 1:
        taught = f"taught by generation {number - 1}"
    text = f"generation {number}/{generations}: '{network.name}', {taught}"
    if done:
        text += f", goes on after epoch {done}/{training.epochs}"
    print(text)
