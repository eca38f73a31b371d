"""`born_again`: networks that are taught by the one before them."""

from keras_distill._arguments import checked_integer
from keras_distill._keras.fingerprint import fingerprint
from keras_distill.distillers import checks
from keras_distill.distillers.generations import networks
from keras_distill.distillers.generations.result import Generations
from keras_distill.distillers.generations.training import Training
from keras_distill.losses.response.soft_targets import SoftTargets
from keras_distill.teachers.roles import as_teacher


def born_again(
    build_student,
    dataset,
    *,
    generations,
    teacher=None,
    distillation_losses=None,
    distillation_loss_weights=None,
    alpha=1.0,
    optimizer="adam",
    loss=None,
    metrics=None,
    epochs=1,
    validation_data=None,
    callbacks=None,
    shared_layers=None,
    seed=0,
    directory=None,
    verbose="auto",
    **fit_options,
):
    """Trains generations of networks, each taught by the one before it.

        generation 0: L_S                          (or the given teacher)
        generation k: alpha * L(generation k-1, generation k)
                      + (1 - alpha) * L_S          from fresh weights

    Each generation is one `fit` of a `kd.Distiller`. The paper's variants:

    | variant | `distillation_losses` | `alpha` |
    |---|---|---|
    | BAN | `kd.losses.SoftTargets()` | 1 |
    | BAN+L, with labels | `kd.losses.SoftTargets()` | 0.5 |
    | CWTM | `kd.losses.ConfidenceWeightedByTeacherMax()` | 1 |
    | DKPP | `kd.losses.DarkKnowledgeWithPermutedPredictions()` | 1 |

    The paper adds the two terms of BAN+L with weight 1 each; with alpha 0.5
    the objective is half of that.

    Every generation begins from its own seeds, made of `seed` and its number
    and set globally as `keras.utils.set_random_seed` does.

    Args:
        build_student: A function of no argument that returns a new
            `keras.Model` giving logits; or a list of such functions, one for
            each network that is trained (generation 0 first, if it is).
        dataset: Batches to train on, as for `Distiller.fit`: a
            `tf.data.Dataset`, a `PyDataset`, or a function `(generation,
            first_epoch)` that returns one (first_epoch is not 0 where a
            killed run goes on). A dataset that ends is repeated where
            `steps_per_epoch` is not its length.
        generations: How many are taught, >= 1. Generation 0 does not count.
        teacher: Teaches the first generation: a trained `keras.Model`, or a
            list of them (`kd.Ensemble`). Defaults to a plainly trained
            network, generation 0.
        distillation_losses: As for `kd.Distiller`; every generation gets new
            ones of the same configuration. Defaults to
            `kd.losses.SoftTargets()`, the paper's: temperature 1.
        distillation_loss_weights: As for `kd.Distiller`.
        alpha: As for `kd.Distiller`. Defaults to 1, the paper's BAN.
        optimizer: A name, an optimizer that was not used yet (each generation
            gets a new one of its configuration), or a function that returns
            one. Defaults to `"adam"`.
        loss: The task loss. Needed without a teacher and where alpha < 1.
        metrics: As for `compile`; new ones for each generation.
        epochs: Of each generation. Defaults to 1.
        validation_data: As for `fit`. Every network is evaluated on it, after
            each epoch and at its end.
        callbacks: A function of the generation's number that returns a list
            of new callbacks. `callback.model` is the `Distiller`.
        shared_layers: Names of layers that every generation takes over from
            the first teacher, frozen: the paper's DenseNet -> ResNet takes
            the first convolution and the output layer. Where the names
            differ, a dict student's name -> teacher's name.
        seed: An integer >= 0. Defaults to 0.
        directory: A folder. Each finished generation is saved there, as
            `generation_<k>.keras`, the running one after each epoch, and
            TensorBoard logs, one run for each generation. The same call goes
            on where it was killed. `generations` may be larger than before;
            other settings are refused. It gives the same result if the order
            of the data is a function of the epoch, as that of
            `kd.datasets.batches`, and the callbacks have no memory.
        verbose: As for `fit`; at 0 nothing is printed.
        **fit_options: Further arguments of `fit`, such as `steps_per_epoch`,
            `validation_steps` or `class_weight`.

    Returns:
        A `Generations`: `models`, `histories` and `metrics` by number (0 is
        the teacher of the first generation), `ensemble(k)`; `print` shows a
        table.

    Raises:
        TypeError, ValueError: before any training, for arguments that do not
            fit, networks that are not new or share weights, shared layers of
            different shapes, losses that deploy the teacher's classifier; and
            for a directory made with other settings, with what differs.

    Example:

    ```python
    def build_student():
        return kd.models.cifar_resnet(8, (8, 8, 3), classes=4)


    found = kd.born_again(
        build_student,
        dataset,
        generations=2,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        validation_data=validation_data,
    )
    print(found)
    found.ensemble().save("ensemble.keras")
    ```

    Reference: Furlanello, Lipton, Tschannen, Itti and Anandkumar 2018,
    "Born-Again Neural Networks", section 3.
    """
    checks.check_backend()
    checked_integer("generations", generations)
    plain = teacher is None
    numbers = range(0 if plain else 1, generations + 1)
    if distillation_losses is None:
        distillation_losses = SoftTargets()
    training = Training(
        dataset=dataset,
        distillation_losses=distillation_losses,
        distillation_loss_weights=distillation_loss_weights,
        alpha=alpha,
        optimizer=optimizer,
        loss=loss,
        metrics=metrics,
        epochs=epochs,
        validation_data=validation_data,
        callbacks=callbacks,
        seed=seed,
        verbose=verbose,
        fit_options=fit_options,
    )
    training.check(plain)
    teacher = as_teacher(teacher)
    if not plain:
        checks.check_teacher(teacher, None)
    students = networks.built(
        networks.builders(build_student, numbers),
        seed,
        teacher,
        lambda: training.first_batch(numbers[0]),
    )
    shared = networks.SharedLayers(shared_layers)
    models = students if plain else {0: teacher, **students}
    _check_pairs(models, training, shared)
    kept = None
    if directory is not None:
        from keras_distill.distillers.generations.directory import Directory
        from keras_distill.distillers.generations.directory import describe

        settings = {
            **training.settings(),
            "shared_layers": shared.names,
            "teacher": None if plain else fingerprint(teacher),
        }
        lines = {number: describe(n) for number, n in students.items()}
        kept = Directory(directory, settings, lines)

    histories, metrics = {}, {}
    if not plain:
        histories[0] = {}
        metrics[0] = training.evaluate(teacher, "teacher")
    for number in numbers:
        network = students[number]
        if number > 0:
            shared.copy(network, models[0])
        before = models.get(number - 1)
        found = kept and kept.load(number, network)
        if not found:
            backup = kept and kept.backup(number)
            _announce(number, generations, network, before, backup, training)
            history = training.fit(number, network, before, backup)
            found = history, training.evaluate(network)
            if kept:
                kept.save(number, network, *found)
        elif verbose:
            print(f"generation {number}/{generations}: done before")
        histories[number], metrics[number] = found
    return Generations(
        *(
            [of[n] for n in sorted(models)]
            for of in (models, histories, metrics)
        ),
        plain=plain,
    )


def _check_pairs(models, training, shared):
    """Lets every network meet its teacher once, before anything is trained."""
    for number, network in models.items():
        if number == 0:
            continue
        try:
            shared.check(network, models[0])
            training.compiled(network, models[number - 1])
        except (TypeError, ValueError) as error:
            error.add_note(f"(in generation {number} of kd.born_again)")
            raise


def _announce(number, generations, network, teacher, backup, training):
    """Says what is trained, before its progress bar."""
    if not training.verbose:
        return
    taught = "from labels" if number == 0 else f"taught by '{teacher.name}'"
    if number > 1:
        taught = f"taught by generation {number - 1}"
    text = f"generation {number}/{generations}: '{network.name}', {taught}"
    if backup is not None and backup.epochs_done:
        text += f", goes on after epoch {backup.epochs_done}/{training.epochs}"
    print(text)
