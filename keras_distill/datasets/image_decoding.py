"""One image file, or one array, as uint8 pixels of a fixed size."""

import os
from typing import Any

import numpy as np

_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")


class Colour(Exception):
    """An image has colour, and grey was expected of all."""


def read(
    file: str, size: tuple, channels: int, crop: bool, only_grey: bool
) -> np.ndarray | str:
    """Reads an image file.

    Args:
        file: The path.
        size: Height and width.
        channels: 1 or 3.
        crop: Whether to keep the aspect ratio and crop.
        only_grey: Whether to raise `Colour` if the image has colour.

    Returns:
        The pixels, uint8 `(height, width, channels)`, or why there are none.
    """
    from PIL import Image
    from PIL import ImageOps
    from PIL import UnidentifiedImageError

    try:
        if not os.path.isfile(file):
            return "no such file"
        if not os.path.getsize(file):
            return "an empty file"
        with Image.open(file) as image:
            if only_grey and image.mode not in _GREY_MODES:
                raise Colour
            # A JPEG is decoded at a half, a quarter or an eighth if that is
            # still twice the size or more.
            image.draft(None, (2 * max(size), 2 * max(size)))
            turned = ImageOps.exif_transpose(image)
            return resized(opaque(turned, channels), size, crop)
    except (Colour, MemoryError):
        raise
    except Image.DecompressionBombError:
        return "more pixels than Pillow reads"
    except UnidentifiedImageError:
        return "no image, or of an unknown format"
    # The formats' readers raise anything on a broken file.
    except Exception as error:
        return f"broken ({error or type(error).__name__})"


def is_grey(file: str) -> bool:
    """Whether the header says so. A file that cannot be read counts as grey."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.mode in _GREY_MODES
    except Exception:
        return True


def opaque(image: Any, channels: int) -> Any:
    """Converts to 8 bits, grey or RGB. What is transparent becomes white."""
    from PIL import Image

    mode = "L" if channels == 1 else "RGB"
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    if image.mode.startswith("I"):
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError("pixels of 32 bits, whose range is not known")
        image = Image.fromarray(np.round(pixels / 257).astype("uint8"))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert(mode)


def resized(image: Any, size: tuple, crop: bool) -> np.ndarray:
    """Resizes with antialiasing; pixels uint8 `(height, width, channels)`."""
    from PIL import Image

    height, width = size
    box = (0.0, 0.0, float(image.width), float(image.height))
    if crop:
        scale = min(image.width / width, image.height / height)
        # Rounded, one of them may be a little below 0.
        right = max(0.0, (image.width - width * scale) / 2)
        down = max(0.0, (image.height - height * scale) / 2)
        box = (right, down, image.width - right, image.height - down)
    image = image.resize((width, height), Image.Resampling.BILINEAR, box)
    return np.asarray(image).reshape(height, width, -1)
