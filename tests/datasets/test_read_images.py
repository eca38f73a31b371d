"""Photographs from folders, CSV files and data sets: pixels, labels, errors."""

import errno
import os
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from keras_distill import datasets
from keras_distill.datasets import image_store
from keras_distill.datasets import image_tfds

RED, GREY, WHITE = (255, 0, 0), (119, 119, 119), (255, 255, 255)


def save(path, colour=RED, mode="RGB", size=(4, 4), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path, **options)
    return path


@pytest.fixture
def pets(tmp_path):
    """Three cats and two dogs, each in its own shade."""
    folder = tmp_path / "pets"
    for number in range(3):
        save(folder / "cat" / f"{number}.png", (number, 0, 0))
    for number in range(2):
        save(folder / "dog" / "deeper" / f"{number}.jpg", (200 + number, 0, 0))
    return folder


def read(source, size=4, **options):
    return datasets.read_images(source, size, verbose=False, **options)


def pixel_of(file, image):
    """The pixel that `read_images` makes of one file, in colour."""
    image.save(file)
    found = read(file.parent, 2, channels=3, labels=None)
    assert found.skipped == []
    return found.x[0, 0, 0].tolist()


def test_a_crop_that_rounds_to_more_than_the_image(tmp_path):
    save(tmp_path / "1.png", size=(450, 600))
    save(tmp_path / "2.png", size=(600, 450))
    options = {"crop_to_aspect_ratio": True, "labels": None}
    assert read(tmp_path, 224, **options).skipped == []


# Sources


def test_a_folder_per_class(pets):
    found = read(pets)
    assert found.x.dtype == "uint8" and found.x.shape == (5, 4, 4, 3)
    assert found.x[:3, 0, 0, 0].tolist() == [0, 1, 2]
    assert found.y.tolist() == [0, 0, 0, 1, 1] and found.y.dtype == "int32"
    assert found.class_names == ["cat", "dog"] and found.skipped == []
    assert [os.path.relpath(file, pets) for file in found.files] == [
        "cat/0.png",
        "cat/1.png",
        "cat/2.png",
        "dog/deeper/0.jpg",
        "dog/deeper/1.jpg",
    ]


def test_the_teachers_names_give_the_order(pets):
    found = read(pets, class_names=["bird", "dog", "cat"])
    assert found.y.tolist() == [2, 2, 2, 1, 1]
    assert found.class_names == ["bird", "dog", "cat"]


@pytest.mark.parametrize("labels, images", [("inferred", 3), (None, 3)])
def test_a_folder_without_classes(pets, labels, images):
    found = read(pets / "cat", labels=labels)
    assert len(found.x) == images
    assert found.y is None and found.class_names is None
    assert len(read(pets, labels=None).x) == 5


@pytest.mark.parametrize("header", ["", "path,label\n", "\ufeffimage,class\n"])
def test_csv(pets, header):
    rows = "cat/0.png,9\ndog/deeper/0.jpg,10\n\ncat/1.png, 9\n"
    file = pets / "labels.csv"
    file.write_text(header + rows + f"{pets}/cat/2.png,\ngone.png,10\n")
    found = read(file)
    assert found.class_names == ["9", "10"] and found.y.tolist() == [0, 1, 0]
    assert [reason for _, reason in found.skipped] == [
        "no label in 'labels.csv'",
        "no such file",
    ]
    file.write_text("cat/0.png\ncat/1.png\n")
    assert read(file).y is None


@pytest.mark.slow
def test_tfds(monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    with tfds.testing.mock_data(num_examples=3):
        found = read("cifar10:test[:3]", 8)
        assert found.x.shape == (3, 8, 8, 3) and found.y.dtype == "int32"
        assert found.class_names[:2] == ["0", "1"]  # Of the mock.
        assert found.files[1] == "cifar10:test[:3]#1"
        names = found.class_names[::-1]
        again = read("cifar10:test[:3]", 8, class_names=names)
        assert again.y.tolist() == [9 - label for label in found.y]
        assert read("mnist:test", 8).x.shape == (3, 8, 8, 1)
        loaded = image_tfds.load

        def without_labels(*args, **kwargs):
            return loaded(*args, **kwargs).map(lambda e: {**e, "label": -1})

        monkeypatch.setattr(image_tfds, "load", without_labels)
        assert read("cifar10:test[:3]", 8).y is None
    with pytest.raises(ValueError, match=r"`source`.*Similar .*'cifar10'"):
        read("cifar11")
    with pytest.raises(ValueError, match="`source`.*no feature 'image'"):
        read("imdb_reviews")


# What is not read


def test_broken_files_are_listed_and_skipped(pets, capsys):
    (pets / "cat" / "empty.jpg").touch()
    (pets / "cat" / "text.jpg").write_text("no image")
    whole = save(pets / "cat" / "half.jpg", size=(64, 64)).read_bytes()
    (pets / "cat" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (pets / "cat" / ".hidden.png").touch()
    (pets / "cat" / "notes.txt").touch()
    (pets / "cat" / "gone.png").symlink_to("nowhere")
    (pets / ".thumbnails").mkdir()
    (pets / "birds").mkdir()
    save(pets / "top.png")
    found = datasets.read_images(pets, 4)
    assert len(found.x) == len(found.y) == len(found.files) == 5
    assert found.class_names == ["cat", "dog"]
    reasons = {os.path.basename(file): why for file, why in found.skipped}
    assert set(reasons) == {
        *("empty.jpg", "text.jpg", "half.jpg", "notes.txt", "gone.png"),
        *("birds", "top.png"),
    }
    assert "broken (" in reasons["half.jpg"]
    assert "5 images. 7 skipped: 1 " in capsys.readouterr().out


def test_links_are_followed_once(pets):
    (pets / "cat" / "all").symlink_to(pets, target_is_directory=True)
    (pets / "cow").symlink_to(pets / "dog", target_is_directory=True)
    found = read(pets)
    assert found.class_names == ["cat", "cow", "dog"]
    assert found.y.tolist().count(1) == 2


# Pixels


def test_transparent_pixels_become_white(tmp_path):
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert pixel_of(tmp_path / "a.png", clear) == [255] * 3
    half = Image.new("LA", (4, 4), (0, 128))
    assert pixel_of(tmp_path / "a.png", half) == [127] * 3
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, *RED])
    assert pixel_of(tmp_path / "a.png", palette) == [*RED]
    palette.info["transparency"] = 1
    assert pixel_of(tmp_path / "a.png", palette) == [255] * 3


def test_16_bits_and_cmyk(tmp_path):
    deep = np.full((4, 4), 119 * 257, "uint16")
    assert pixel_of(tmp_path / "a.png", Image.fromarray(deep)) == [*GREY]
    (tmp_path / "a.png").unlink()
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    pixel = pixel_of(tmp_path / "b.jpg", cmyk)
    np.testing.assert_allclose(pixel, RED, atol=3)


@pytest.mark.parametrize("orientation", [6, 8])
def test_exif_turns_a_photograph(tmp_path, orientation):
    image = Image.new("RGB", (8, 4))
    image.paste(WHITE, (0, 0, 4, 4))  # Left half.
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    found = read(tmp_path, (8, 4))
    top, bottom = found.x[0, 1, 1, 0], found.x[0, 6, 1, 0]
    assert (top, bottom) == ((255, 0) if orientation == 6 else (0, 255))


def test_resize_stretches_or_crops(tmp_path):
    image = Image.new("RGB", (16, 4))
    image.paste(RED, (6, 0, 10, 4))  # The square in the middle.
    image.save(tmp_path / "a.png")
    stretched = read(tmp_path, 4).x[0]
    assert stretched[:, 0].max() == 0 and stretched[2, 2, 0] < 255
    cropped = read(tmp_path, 4, crop_to_aspect_ratio=True).x[0]
    np.testing.assert_array_equal(cropped, np.broadcast_to(RED, (4, 4, 3)))


def test_channels_are_those_of_the_images(tmp_path):
    for number in range(150):
        save(tmp_path / f"{number:03}.png", GREY, "L")
    assert read(tmp_path).x.shape[-1] == 1
    assert read(tmp_path, channels=3).x[0, 0, 0].tolist() == [*GREY]
    save(tmp_path / "001.png")  # Not in the sample that is looked at.
    found = read(tmp_path, directory=tmp_path / ".kept")
    assert found.x.shape == (150, 4, 4, 3)
    assert found.x[1, 0, 0].tolist() == [*RED]
    assert read(tmp_path, channels=1).x.shape[-1] == 1


def test_order_does_not_depend_on_threads(tmp_path):
    for number in range(200):
        save(tmp_path / f"{number:03}.png", (number, 0, 0))
    before = threading.active_count()
    found = read(tmp_path)
    assert found.x[:, 0, 0, 0].tolist() == list(range(200))
    assert threading.active_count() == before


# Kept in a directory


def decodings(monkeypatch):
    calls = []
    read_file = image_store.image_decoding.read

    def counted(file, *arguments):
        calls.append(file)
        return read_file(file, *arguments)

    monkeypatch.setattr(image_store.image_decoding, "read", counted)
    return calls


def test_kept_images_are_read_once(pets, tmp_path, monkeypatch):
    directory = tmp_path / "kept"
    (pets / "cat" / "empty.png").touch()
    calls = decodings(monkeypatch)
    first = read(pets, directory=directory)
    assert len(calls) == 6
    assert isinstance(first.x, np.memmap) and not first.x.flags.writeable
    again = read(pets, directory=directory)
    assert len(calls) == 6
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one, other)
    assert again.y.dtype == "int32" and again.skipped == first.skipped
    save(pets / "cat" / "1.png", (77, 0, 0))
    os.utime(pets / "cat" / "1.png", ns=(1, 1))
    assert read(pets, directory=directory).x[1, 0, 0, 0] == 77
    assert first.x[1, 0, 0, 0] == 1  # The old map is what it was.
    (pets / "cat" / "0.png").unlink()
    assert len(read(pets, directory=directory).x) == 4
    assert read(pets, 8, directory=directory).x.shape[1] == 8
    assert len(list(directory.glob("*.npy"))) == 2
    assert not list(directory.glob(".*"))


def test_a_number_of_digits_less(tmp_path):
    """The header of the file is written before the number is known."""
    for number in range(10):
        save(tmp_path / f"{number}.png", (number, 0, 0))
    (tmp_path / "4.png").write_bytes(b"")
    found = read(tmp_path, directory=tmp_path / ".kept")
    assert found.x[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_disk_full(pets, tmp_path, monkeypatch):
    directory = tmp_path / "kept"
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=9))
        with pytest.raises(OSError, match="need 240 bytes, and 9 are free"):
            read(pets, directory=directory)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="`directory` is too small.*240 bytes"):
        read(pets, directory=directory)
    assert not list(directory.iterdir())


# Bad input


@pytest.mark.parametrize(
    "make, options, message",
    [
        (lambda f: None, {}, "no image in `source`"),
        (lambda f: (f / "a.txt").touch(), {}, r"1 no image by its name \(.txt"),
        (lambda f: (f / "a.png").touch(), {}, "could be read. 1 skipped: 1 an"),
        (lambda f: save(f / "cat" / "a.png"), {}, "one class only, 'cat'"),
        (
            lambda f: [save(f / n / "c" / "a.png") for n in ("train", "val")],
            {},
            "splits of a data set: .*Pass one of them",
        ),
        (
            lambda f: [save(f / n / "a.png") for n in ("Cats", "dog")],
            {"class_names": ["dog", "cat", "bird"]},
            r"'Cats' is 'cat'.*pass class_names=\['dog', 'Cats', 'bird'\]",
        ),
        (
            lambda f: [save(f / n / "a.png") for n in ("n0147", "dog")],
            {"class_names": ["dog", "cat"]},
            r"'n0147' is \?\. Rename .*\['cat'\]",
        ),
        (
            lambda f: save(f / "a.png"),
            {"class_names": ["dog", "cat"]},
            "`class_names` needs labels",
        ),
        (
            lambda f: save(f / "a.png"),
            {"class_names": ["dog", "dog"]},
            "each once",
        ),
    ],
)
def test_bad_input(tmp_path, make, options, message):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **options)


def test_a_file_of_another_kind(tmp_path):
    file = tmp_path / "images.zip"
    file.touch()
    with pytest.raises(ValueError, match="Received the file"):
        read(file)
    with pytest.raises(ValueError, match="There is no file and no data set"):
        read(tmp_path / "nowhere")


# Drawings


@pytest.mark.parametrize("there", [True, False])
def test_drawings(tmp_path, monkeypatch, there):
    from keras_distill.datasets import images

    folder = tmp_path / "png"
    monkeypatch.setattr(images, "_DRAWINGS", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if not there:
        with pytest.raises(FileNotFoundError, match="apt-get install openclip"):
            datasets.drawings()
        return
    save(folder / "animals" / "birds" / "owl.png", size=(8, 4))
    found = datasets.drawings(4, verbose=False)
    assert found.x.shape == (1, 4, 4, 3) and found.y is None
    assert list((tmp_path / "keras_distill").glob("images-*.npy"))
