"""Function matching as published: data and teachers of the paper, on a GPU.

    python examples/papers/published_function_matching.py flowers102 \\
        --teacher R152x2_T_flowers128.npz --duration fast

It needs a network for the data (tensorflow-datasets downloads them) and the
file of a teacher, which big_vision publishes at gs://bit_models/distill. A
BiT-R50x1 learns to answer as the R152x2 does. Settings are those of
`kd.recipes.function_matching(dataset=...)`. A run that is stopped goes on, once
it has read the images again that it had seen.
"""

import argparse
import pathlib

import keras

import keras_distill as kd

SAVED = pathlib.Path(__file__).parents[2] / "saved_models"


def train(student, teacher, recipe, data, folder, epochs):
    """Trains the student, and returns its loss and accuracy on the test."""
    distiller = kd.Distiller(
        student=student, teacher=teacher, **recipe.distiller_arguments()
    )
    distiller.compile(
        recipe.optimizer(),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    distiller.fit(
        data.train,
        epochs=epochs,
        steps_per_epoch=-(-recipe.steps // epochs),
        validation_data=data.validation,
        callbacks=[
            kd.callbacks.BackupAndResume(folder / "backup"),
            keras.callbacks.TensorBoard(folder / "logs"),
        ],
    )
    distiller.deployable_student().save(folder / "student.keras")
    return distiller.evaluate(data.test, return_dict=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "dataset",
        choices=["flowers102", "pets", "food101", "sun397", "imagenet2012"],
    )
    parser.add_argument("--teacher", required=True, help="a BiT .npz file")
    parser.add_argument("--teacher-depth", type=int, default=152)
    parser.add_argument("--teacher-width", type=int, default=2)
    parser.add_argument(
        "--duration", choices=["fast", "medium", "long"], default="fast"
    )
    parser.add_argument(
        "--image-size", type=int, help="of the student: 128, ImageNet 224"
    )
    parser.add_argument(
        "--teacher-image-size", type=int, help="if it sees a larger one"
    )
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--data-dir")
    args = parser.parse_args()
    recipe = kd.recipes.function_matching(
        args.image_size,
        dataset=args.dataset,
        duration=args.duration,
        teacher_image_size=args.teacher_image_size,
    )
    size = recipe.views.image_size[0]
    teachers_size = args.teacher_image_size or size
    data = kd.datasets.published(
        args.dataset, max(size, teachers_size), data_dir=args.data_dir
    )
    teacher = kd.models.bit_resnet(
        args.teacher_depth,
        args.teacher_width,
        (teachers_size, teachers_size, 3),
        data.classes,
    )
    kd.models.load_bit_weights(teacher, args.teacher)
    student = kd.models.bit_resnet(50, 1, (size, size, 3), data.classes)
    folder = SAVED / "published" / f"{args.dataset}_{args.duration}"
    folder.mkdir(parents=True, exist_ok=True)
    found = train(student, teacher, recipe, data, folder, args.evaluations)
    for metric, value in found.items():
        print(f"{metric}: {value:.4f}")


if __name__ == "__main__":
    main()
