"""Every decision about pixels: which pictures are accepted, what is measured, and how renditions are encoded.

Uses no model, storage or setting: the same bytes and the same Pillow give the same result.
"""

from __future__ import annotations

import base64
import colorsys
import hashlib
import io
import itertools
import warnings
from dataclasses import dataclass
from typing import Any

import thumbhash
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

ACCEPTED = ("WEBP", "PNG", "JPEG")
MAX_SIDE = 16_383
"""The longest side, in pixels, of a WebP."""
MAX_PIXELS = 50_000_000
"""Decoded, at four bytes each, one picture takes 200 MB.

Memory holds two copies while it is rotated or converted, or if it is transparent, and four while a WebP is read.
"""
MAX_BYTES = 50_000_000
WIDTHS = (320, 640, 960, 1280)
FORMATS = ("webp", "jpeg")

LIMITS = f"a WebP, PNG or JPEG of at most {MAX_PIXELS:,} pixels, {MAX_SIDE:,} a side and {MAX_BYTES:,} bytes"

_WHITE = (255, 255, 255)
_OTHER_COLORS = {("GRAY", "L"), ("GRAY", "LA"), ("CMYK", "CMYK")}
"""The colour space of a profile, and Pillow's mode of pictures with such colours."""
# Method 6 makes files 1 to 5 % smaller but takes 1.6 times as long; 4:2:0 would blur coloured text on white.
_ENCODERS: dict[str, dict[str, Any]] = {
    "webp": {"format": "WEBP", "quality": 80, "method": 4},
    "jpeg": {"format": "JPEG", "quality": 80, "optimize": True, "progressive": True, "subsampling": "4:4:4"},
}


class ImageError(ValueError):
    """The bytes are not an acceptable picture. The message says what is wrong, and what is accepted."""

    def __init__(self, wrong: str) -> None:
        super().__init__(f"{wrong}; accepted is {LIMITS}.")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is measured in an original; `width` and `height` are in pixels, after rotation as Exif says."""

    width: int
    height: int
    sha256: str
    """The digest of the original bytes, in 64 lower-case hexadecimal digits."""
    dominant_color: str
    """The colour that covers the largest area, `#rrggbb`."""
    accent_color: str
    """The colour that stands out, `#rrggbb`; the dominant one if everything is grey."""
    placeholder: str
    """A thumbhash in base64, at most 40 characters."""
    dhash256: str
    """64 hexadecimal digits: for each of 17x16 grey pixels, row by row, one bit: whether the next one is lighter."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes of one rendition; `width` and `height` in pixels, `format` one of `FORMATS`."""

    width: int
    height: int
    format: str
    data: bytes


def describe(original: bytes) -> Facts:
    """Measure an original picture. Raises `ImageError`."""
    return _facts(original, _decode(original))


def renditions(original: bytes) -> list[Encoded]:
    """Encode an original at every width of `rendition_widths`, in every format. Raises `ImageError`."""
    return _renditions(original, _decode(original))


def develop(original: bytes) -> tuple[Facts, list[Encoded]]:
    """Return `describe` and `renditions` of an original, which is decoded only once. Raises `ImageError`."""
    picture = _decode(original)
    return _facts(original, picture), _renditions(original, picture)


def rendition_widths(width: int) -> tuple[int, ...]:
    """Return the widths of the renditions of a picture of this width: at least one, and none wider than the picture."""
    return tuple(w for w in WIDTHS if w <= width) or (width,)


# --- Reading ------------------------------------------------------------------------------------------------


def _decode(original: bytes) -> Image.Image:
    """Return the decoded picture, upright, in RGB or (if it has transparency) RGBA, without metadata."""
    if len(original) > MAX_BYTES:
        raise ImageError(f"This picture has {len(original):,} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is lower
            with Image.open(io.BytesIO(original), formats=ACCEPTED) as opened:
                _check_size(opened.size)
                return _plain(opened)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("This is not a readable picture") from error
    except Image.DecompressionBombError as error:
        raise ImageError("This picture has too many pixels") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, EOFError, ...
        raise ImageError(f"This picture is damaged or cut short ({error})") from error


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if max(size) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(f"This picture has {width:,} x {height:,} pixels")


def _plain(picture: Image.Image) -> Image.Image:
    """Return the picture as `_decode` does. Avoids copies where it can: one of a large picture takes 200 MB."""
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I"):  # 16-bit grey: a plain conversion would clip it to white
        picture = picture.convert("I").point(lambda level: level / 257).convert("L")
    stored, mode = picture, "RGBA" if picture.has_transparency_data else "RGB"
    # The decoder of a WebP, which holds two more copies, lives as long as its picture.
    if picture.mode != mode or picture.format == "WEBP":
        picture = picture.convert(mode)
    if profile := stored.info.get("icc_profile"):
        picture = _in_srgb(stored, picture, profile)
    picture.info = {}  # the encoders would copy colour profiles and comments from here
    return picture


def _in_srgb(stored: Image.Image, picture: Image.Image, profile: bytes) -> Image.Image:
    """Return the picture converted from its colour profile to sRGB, which is assumed where there is no profile.

    `stored` is the picture as it came. A profile that is unreadable, or of another colour space, is ignored.
    """
    try:
        meant = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        if meant.profile.xcolor_space == "RGB " and stored.mode != "CMYK":
            # This keeps the alpha channel.
            ImageCms.buildTransform(meant, srgb, picture.mode, picture.mode).apply_in_place(picture)
        elif (meant.profile.xcolor_space, stored.mode) in _OTHER_COLORS:
            colors = stored.convert(stored.mode.removesuffix("A"))
            shown = ImageCms.buildTransform(meant, srgb, colors.mode, "RGB").apply(colors)
            if picture.mode == "RGBA":
                shown.putalpha(picture.getchannel("A"))
            return shown
    except (OSError, ImageCms.PyCMSError):
        pass
    return picture


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    ground = Image.new("RGB", picture.size, _WHITE)
    ground.paste(picture, mask=picture.getchannel("A"))
    return ground


# --- Measuring ----------------------------------------------------------------------------------------------


def _facts(original: bytes, picture: Image.Image) -> Facts:
    seen = _on_white(picture)
    dominant, accent = _colors(seen)
    return Facts(
        width=picture.width,
        height=picture.height,
        sha256=hashlib.sha256(original).hexdigest(),
        dominant_color=dominant,
        accent_color=accent,
        placeholder=_placeholder(seen),
        dhash256=_dhash256(seen),
    )


def _colors(picture: Image.Image) -> tuple[str, str]:
    """Return the dominant and the accent colour of 16: the largest in area, and the most vivid weighted by area."""
    small = picture.resize((128, 128), Image.Resampling.BOX).quantize(16, Image.Quantize.MEDIANCUT)
    levels = small.getpalette() or []
    counts = [(n, tuple(levels[3 * index : 3 * index + 3])) for n, index in _histogram(small)]
    dominant = max(counts)[1]
    accent = max(counts, key=lambda entry: (_vividness(entry[1]) * entry[0] ** 0.5, entry))[1]
    return _hex(dominant), _hex(accent if _vividness(accent) > 0 else dominant)


def _histogram(reduced: Image.Image) -> list[tuple[int, int]]:
    return [(n, index) for index, n in enumerate(reduced.histogram()) if n]


def _vividness(color: tuple[int, ...]) -> float:
    """Return the chroma, 0 to 1; 0 for colours that hardly differ from grey."""
    red, green, blue = (level / 255 for level in color)
    _, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    chroma = saturation * value
    return chroma if chroma > 0.06 else 0.0


def _hex(color: tuple[int, ...]) -> str:
    return "#" + bytes(color).hex()


def _placeholder(picture: Image.Image) -> str:
    # A thumbhash keeps at most seven waves a side, so 32 pixels suffice, and are ten times as fast as 100.
    # Always opaque: thumbhash 0.1.2 raises on pictures with transparency.
    small = picture.reduce(max(1, max(picture.size) // 64))
    small.thumbnail((32, 32))
    pixels = list(small.convert("RGBA").tobytes())
    return base64.b64encode(bytes(thumbhash.rgba_to_thumb_hash(*small.size, pixels))).decode("ascii")


def _dhash256(picture: Image.Image) -> str:
    grey = picture.convert("L").resize((17, 16), Image.Resampling.LANCZOS).tobytes()
    rows = (grey[start : start + 17] for start in range(0, 17 * 16, 17))
    bits = "".join("01"[right > left] for row in rows for left, right in itertools.pairwise(row))
    return f"{int(bits, 2):064x}"


# --- Encoding -----------------------------------------------------------------------------------------------


def _renditions(original: bytes, picture: Image.Image) -> list[Encoded]:
    """Encode every rendition, also one as wide as the original: a file may contain data after the picture."""
    return [
        _encode(scaled, format, lossless=scaled is picture and _is_lossless_webp(original))
        for scaled in (_scaled(picture, width) for width in rendition_widths(picture.width))
        for format in FORMATS
    ]


def _scaled(picture: Image.Image, width: int) -> Image.Image:
    if width == picture.width:
        return picture
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _encode(picture: Image.Image, format: str, *, lossless: bool) -> Encoded:
    if format == "webp":
        data = _encoded(picture, {**_ENCODERS[format], "lossless": lossless})
    else:
        data = _encoded(_on_white(picture), _ENCODERS[format])
    return Encoded(picture.width, picture.height, format, data)


def _encoded(picture: Image.Image, options: dict[str, Any]) -> bytes:
    try:
        return _saved(picture, options)
    except OSError:  # Pillow guesses a buffer size for these two options, which noise exceeds
        return _saved(picture, {**options, "optimize": False, "progressive": False})


def _saved(picture: Image.Image, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()


def _is_lossless_webp(original: bytes) -> bool:
    """Return whether this is a WebP in the simple lossless file format."""
    return original[:4] == b"RIFF" and original[8:16] == b"WEBPVP8L"
