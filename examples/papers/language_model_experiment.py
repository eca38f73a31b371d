"""The texts, the networks and the trainings of `language_model.py`."""

import functools
import json
import pathlib
import sys
import time

import keras
import tensorflow as tf

import keras_distill as kd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs

OUT = pathlib.Path(__file__).parents[2] / "saved_models"
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RUN = 50  # Lines that stay together when a text is thinned.


def thinned(text, every):
    """Every n-th run of lines, so that the whole text is represented."""
    lines = text.splitlines(keepends=True)
    return "".join(x for i, x in enumerate(lines) if i // RUN % every == 0)


def texts(settings):
    """The arguments of `kd.datasets.language_model` that name the text."""
    if settings["data"]:
        return (settings["data"],)
    text = kd.datasets.read_text(settings["text"])
    every = settings["every"]
    return tuple(thinned(part, n) for part, n in zip(text, every))


class LanguageModelExperiment:
    """One network and one seed, in every worker."""

    def __init__(self, settings, network, seed):
        self.settings = {**settings, **settings["networks"][network]}
        self.network, self.seed = network, seed
        self.folder = OUT.joinpath(
            settings["home"], "generations", f"{network}_{seed}"
        )
        self.data = kd.datasets.language_model(
            *texts(settings),
            batch_size=self.settings["batch_size"],
            steps=settings["steps"],
            vocabulary=settings["vocabulary"],
            characters=self.settings.get("word_length"),
        )

    def build(self):
        options = {
            **self.settings["options"],
            "vocabulary": len(self.data.vocabulary),
            "batch_size": self.settings["batch_size"],
            "steps": self.settings["steps"],
        }
        if self.data.characters is None:
            return kd.models.lstm_language_model(**options)
        return kd.models.char_cnn_lstm_language_model(
            characters=len(self.data.characters),
            word_length=self.settings["word_length"],
            **options,
        )

    def optimizer(self):
        """SGD. The papers sum the loss over the steps of a stream, and Keras
        takes their mean: so the rate is larger, and the bound of the gradient
        smaller, by the number of steps. Small networks have Adam and a cosine:
        SGD wants a training ten times as long."""
        steps, rate = self.settings["steps"], self.settings["rate"]
        if self.settings["optimizer"] == "adam":
            whole = self.settings["epochs"] * int(self.data.train.cardinality())
            return keras.optimizers.Adam(
                keras.optimizers.schedules.CosineDecay(rate, whole)
            )
        return keras.optimizers.SGD(
            steps * rate,
            global_clipnorm=self.settings["clip_norm"] / steps,
        )

    def callbacks(self, generation):
        if self.settings["optimizer"] == "adam":
            return []
        plateau = keras.callbacks.ReduceLROnPlateau(
            monitor="val_perplexity",
            mode="min",
            factor=self.settings["factor"],
            patience=1,
            min_delta=self.settings["least_gain"],
        )
        return [plateau]

    def born_again(self, **options):
        """Teacher and students see the same streams, in order."""
        return kd.born_again(
            self.build,
            self.data.train,
            compile_options={
                "optimizer": self.optimizer,
                "loss": CROSSENTROPY,
                "metrics": [kd.metrics.Perplexity()],
            },
            epochs=self.settings["epochs"],
            validation_data=self.data.validation,
            callbacks=self.callbacks,
            verbose=self.settings["verbose"],
            seed=self.seed,
            **options,
        )

    def perplexities(self, model):
        """Perplexity on both parts, each from zero states."""
        model.compile(loss=CROSSENTROPY, metrics=[kd.metrics.Perplexity()])
        found = {}
        for part in ("validation", "test"):
            for member in getattr(model, "models", [model]):
                for layer in member.layers:
                    if getattr(layer, "stateful", False):
                        layer.reset_state()
            logs = model.evaluate(
                getattr(self.data, part), verbose=0, return_dict=True
            )
            found[part] = logs["perplexity"]
        return found

    # The jobs: each gives perplexities and curves by row.

    def generations(self):
        found = self.born_again(
            generations=self.settings["generations"], directory=self.folder
        )
        names = ["teacher", *(f"BAN-{k}" for k in range(1, len(found.models)))]
        models = dict(zip(names, found.models))
        rows = {n: self.perplexities(model) for n, model in models.items()}
        rows["ensemble"] = self.perplexities(found.ensemble())
        return rows, dict(zip(names, found.histories))

    def with_labels(self):
        # Weights and streams are those of BAN-1: the loss is the difference.
        teacher = keras.models.load_model(self.folder / "generation_0.keras")
        found = self.born_again(
            generations=1, teacher=teacher, distiller_options={"alpha": 0.5}
        )
        rows = {"BAN+L": self.perplexities(found.models[1])}
        return rows, {"BAN+L": found.histories[1]}

    def do(self, job):
        jobs = {"generations": self.generations, "BAN+L": self.with_labels}
        rows, histories = jobs[job]()
        curves = {n: logs["val_perplexity"] for n, logs in histories.items()}
        return {"perplexity": rows, "curves": curves}


# Workers.


@functools.lru_cache(maxsize=2)
def experiment_of(settings, network, seed):
    settings = json.loads(settings)
    if not settings["verbose"]:
        long_runs.one_thread()
    # It counts every new network's evaluation as a retracing of the last's.
    tf.get_logger().setLevel("ERROR")
    return LanguageModelExperiment(settings, network, seed)


def first_numbers(settings):
    """Of the text and of both networks."""
    numbers = {}
    for network in settings["networks"]:
        experiment = experiment_of(json.dumps(settings), network, 0)
        data = experiment.data
        parts = {"train": data.train, "validation": data.validation}
        parts["test"] = data.test
        words = experiment.settings["batch_size"] * settings["steps"]
        numbers[network] = {
            "parameters": experiment.build().count_params(),
            "vocabulary": len(data.vocabulary),
            **{
                f"{part}_words": words * int(dataset.cardinality())
                for part, dataset in parts.items()
            },
        }
    return numbers


def work(job):
    key, name, network, seed, settings = job
    keras.backend.clear_session()
    experiment = experiment_of(json.dumps(settings), network, seed)
    start = time.time()
    result = experiment.do(name)
    return key, {**result, "seconds": time.time() - start}
