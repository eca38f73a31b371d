"""Images and labels of a data set of tensorflow-datasets."""

import difflib
import re

import numpy as np

from keras_distill.datasets import image_decoding
from keras_distill.datasets.image_listing import Listing
from keras_distill.datasets.image_listing import ordered_classes
from keras_distill.datasets.loaders import load
from keras_distill.datasets.loaders import optional

# name, name/configuration, name:1.0.0, each with :split.
_NAME = re.compile(r"(\w+(?:/[\w.-]+)*(?::[\d*]+\.[\d*]+\.[\d*]+)?)(?::(.+))?")


class TfdsImages:
    """The images of a split, in its order."""

    def __init__(self, name, split, channels):
        self.name = name
        self.split = split
        self.channels = channels

    def rows(self, size, channels, crop):
        """Yields the pixels of each image, uint8 `(*size, channels)`."""
        from PIL import Image

        for example in load(self.name, self.split):
            pixels = example["image"].numpy()
            if pixels.shape[-1] == 1:
                pixels = pixels[..., 0]
            image = Image.fromarray(pixels)
            image = image_decoding.opaque(image, channels)
            yield image_decoding.resized(image, size, crop)


def list_tfds(source: str, labelled: bool, class_names: list | None):
    """Lists a split of a data set, whose labels it reads.

    Raises:
        ValueError: If there is no data set of this name, or it has no images.
    """
    match = _NAME.fullmatch(source)
    if not match:
        raise ValueError(_neither(source, ""))
    tfds = optional("tensorflow_datasets")
    name, split = match[1], match[2] or "train"
    known = tfds.list_builders(with_community_datasets=False)
    plain = re.split("[/:]", name)[0]
    if plain not in known:
        close = difflib.get_close_matches(plain, known, 3)
        similar = f" Similar names: {close}." if close else ""
        raise ValueError(_neither(source, similar))
    features = dict(tfds.builder(name).info.features.items())
    image = features.get("image")
    if not isinstance(image, tfds.features.Image):
        raise ValueError(
            f"The data set {name!r} of `source` has no feature 'image'. It "
            f"has: {', '.join(features)}"
        )
    label = features.get("label") if labelled else None
    if not isinstance(label, tfds.features.ClassLabel):
        label = None
    data = load(name, split, decoders={"image": tfds.decode.SkipDecoding()})
    given = [-1 if label is None else int(example["label"]) for example in data]
    files = [f"{name}:{split}#{index}" for index in range(len(given))]
    kept = TfdsImages(name, split, 1 if image.shape[-1] == 1 else 3)
    # -1: no label, as in the test splits of competitions.
    if label is None or not files or min(given) < 0:
        return Listing(files, None, None, [], kept)
    names = ordered_classes(list(label.names), class_names)
    place = np.array([names.index(each) for each in label.names], "int32")
    return Listing(files, place[given], names, [], kept)


def _neither(source, hint):
    return (
        f"`source` must be a folder, a .csv file or a name of "
        f"tensorflow-datasets. There is no file and no data set {source!r}."
        f"{hint}"
    )
