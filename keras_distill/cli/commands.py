"""What `keras-distill` understands."""

import functools
import json

import click

import keras_distill as kd
from keras_distill import _command
from keras_distill.cli import values
from keras_distill.workflow import settings as settings_file
from keras_distill.workflow.screen import WIDTH

_CONTEXT = {"max_content_width": WIDTH, "help_option_names": ["-h", "--help"]}
_ERRORS = (
    TypeError,
    ValueError,
    OSError,
    ImportError,
    kd.export.ExportError,
    kd.export.VerificationError,
)


class _Group(click.Group):
    """Shows an error of the package as a sentence, without a traceback."""

    def main(self, *args, **options):
        _command.release()
        return super().main(*args, **options)

    def list_commands(self, context):
        return list(self.commands)  # In the order of the steps.

    def invoke(self, context):
        try:
            return super().invoke(context)
        except _ERRORS as error:
            raise click.ClickException(values.wrapped(error)) from error
        except KeyboardInterrupt:
            raise click.ClickException(
                "Stopped. The same line goes on where it was (leave out "
                "--overwrite)."
            ) from None


@click.group(cls=_Group, context_settings=_CONTEXT)
@click.version_option(kd.__version__, prog_name="keras-distill")
def main():
    """Knowledge distillation for Keras: from a trained model to a phone file.

    keras-distill run images --teacher teacher.keras

    `run` does all steps; each of the others stops after its own, and `run`
    goes on from there.
    """


def _with_options(command):
    """Adds the arguments and options of a run."""
    option = functools.partial(click.option)
    options = (
        click.argument("images", required=False),
        option(
            "--teacher",
            metavar="FILE",
            help=".keras, .tflite, .onnx, or a keras.applications name.",
        ),
        option(
            "--student", metavar="FILE", help="A .keras file [default: auto]."
        ),
        option(
            "--validation",
            metavar="IMAGES",
            help="They choose and test [default: 20 % of IMAGES].",
        ),
        option(
            "--unlabelled",
            metavar="IMAGES",
            help="More images, which the teacher labels.",
        ),
        option(
            "--budget",
            type=values.Budget(),
            help="Of an auto student: kib=100,ms=2,macs=3e6 (any).",
        ),
        option(
            "--time-limit",
            type=values.Time(),
            help="For everything: 600 (seconds), 20m, 2h.",
        ),
        option(
            "--output",
            metavar="FOLDER",
            default="run",
            show_default=True,
            help="Where everything goes.",
        ),
        option(
            "--settings",
            metavar="FILE",
            help="The settings.yaml of a run to repeat.",
        ),
        option(
            "--set",
            "fixed",
            type=values.Setting(),
            multiple=True,
            help="Fix a value: steps=2000, image_size=96.",
        ),
        option(
            "--skip",
            metavar="STEP",
            multiple=True,
            help="diagnose, choose, cache, compare, export, ...",
        ),
        option("--resume", is_flag=True, help="Go on with a finished run."),
        option("--overwrite", is_flag=True, help="Replace the run in FOLDER."),
    )
    for decorate in reversed(options):
        command = decorate(command)
    return command


def _distill(until, images, settings, fixed, **given):
    """Calls `kd.distill`; what a settings file knows need not be given."""
    values_of_file, before = {}, {}
    if settings is not None:
        values_of_file, before = settings_file.read(settings)
    given["validation_data"] = given.pop("validation")
    given["data"] = images
    for name, value in before.items():
        given[name] = given.get(name) or value
    missing = {"data": "IMAGES", "teacher": "--teacher"}
    for name, label in missing.items():
        if given.get(name) is None:
            raise click.UsageError(
                f"Missing {label}: keras-distill run images --teacher "
                "teacher.keras"
            )
    given["student"] = given["student"] or "auto"
    kd.distill(**given, settings={**values_of_file, **dict(fixed)}, until=until)


def _step(name, until, text, example):
    """Makes the subcommand of a step."""

    def command(**given):
        if until is not None:
            # A step that is done shows its result again.
            given["resume"] = True
        _distill(until, **given)

    command.__doc__ = f"{text}\n\n    keras-distill {name} {example}\n"
    return main.command(name, context_settings=_CONTEXT)(_with_options(command))


_step(
    "run",
    None,
    "Distil a small student, and make a phone file of it.",
    "images --teacher teacher.keras",
)
_step(
    "diagnose",
    "diagnose",
    "Say beforehand what there is to gain.",
    "images --teacher teacher.keras",
)
_step(
    "choose",
    "choose",
    "Choose how to teach: temperature, alpha, views, rate.",
    "images --teacher teacher.keras",
)
_step(
    "cache",
    "cache",
    "Compute what the teacher says of all images, once.",
    "images --teacher teacher.keras",
)
_step(
    "train",
    "compare",
    "Train the student, distilled and alone.",
    "images --teacher teacher.keras --skip diagnose",
)
_step(
    "export",
    "export",
    "Write the student as Keras and TFLite files.",
    "images --teacher teacher.keras --set quantization=int8",
)
_step(
    "verify",
    "verify",
    "Run the files on the test images.",
    "images --teacher teacher.keras",
)
_step(
    "report",
    "report",
    "Write the page that a team reviews.",
    "images --teacher teacher.keras",
)


@main.command(context_settings=_CONTEXT)
@click.argument("file")
def metadata(file):
    """Print what a TFLite file takes and gives, and what made it.

    keras-distill metadata run/student_int8.tflite
    """
    click.echo(json.dumps(kd.export.metadata(file), indent=1))
