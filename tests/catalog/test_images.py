"""What is accepted as a picture, what is measured in it, and what it becomes."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import subprocess
import sys
import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms, ImageDraw

from catalog.capture import images
from catalog.capture.images import ImageError, describe, develop, rendition_widths, renditions
from catalog.models import Screenshot

CHECKOUT = Path(__file__).resolve().parents[2]
DEMO = CHECKOUT / "catalog" / "demo"


LOSSLESS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}


def page(width: int = 400, height: int = 300, mode: str = "RGB") -> Image.Image:
    """Draw something like a page: white, a blue bar on top, a few dark lines."""
    picture = Image.new(mode, (width, height), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width, height // 6), fill="#0d6efd")
    for y in range(height // 3, height, max(8, height // 12)):
        draw.line((10, y, width // 2, y), fill="#222222", width=2)
    return picture


def encoded(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds next to nothing: a decompression bomb."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


class TestAccepted:
    @pytest.mark.parametrize("format", ["WEBP", "PNG", "JPEG"])
    def test_three_formats_are_read(self, format: str) -> None:
        facts = describe(encoded(page(), format))

        assert (facts.width, facts.height) == (400, 300)

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
    def test_every_kind_of_png_is_read(self, mode: str) -> None:
        original = Image.new("I;16", (40, 30), 40_000) if mode == "I;16" else page(40, 30).convert(mode)

        assert len(develop(encoded(original))[1]) == 2

    def test_sixteen_bits_of_grey_keep_their_tone(self) -> None:
        facts = describe(encoded(Image.new("I;16", (40, 30), 0xFF00)))

        assert facts.dominant_color == "#fefefe"

    def test_a_cmyk_jpeg_is_read(self) -> None:
        assert describe(encoded(page().convert("CMYK"), "JPEG")).width == 400

    def test_a_photo_is_turned_as_its_exif_says(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # a quarter turn
        facts = describe(encoded(page(400, 300), "JPEG", exif=exif))

        assert (facts.width, facts.height) == (300, 400)


def red_is_green() -> bytes:
    """Return the profile of a screen whose red is what sRGB calls green, and the other way round."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return srgb.replace(b"rXYZ", b"tags").replace(b"gXYZ", b"rXYZ").replace(b"tags", b"gXYZ")


def linear_greys() -> bytes:
    """Return the profile of a scale of grey on which half the light is half the number."""
    white = b"".join(round(part * 65536).to_bytes(4, "big") for part in (0.9642, 1, 0.8249))
    tags = {b"wtpt": b"XYZ \0\0\0\0" + white, b"kTRC": struct.pack(">4sIIH2x", b"curv", 0, 1, 256)}
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for tag, data in tags.items():
        table += struct.pack(">4sII", tag, start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI12s12x4s28x", start + len(body), b"lcms", 0x02400000, b"mntrGRAYXYZ ", b"acsp")
    return (head + white).ljust(128, b"\0") + table + body


class TestProfiles:
    """Renditions have no profile, so that their colours are those that the original's profile means."""

    @staticmethod
    def shown(picture: Image.Image, format: str = "PNG", profile: bytes | None = None) -> Any:
        """Return a pixel of the WebP that becomes of a picture."""
        original = encoded(picture, format, icc_profile=profile or red_is_green(), **LOSSLESS.get(format, {}))
        made = {one.format: one.data for one in renditions(original)}
        return opened(made["webp"]).getpixel((5, 5))

    @pytest.mark.parametrize("format", ["WEBP", "PNG", "JPEG"])
    def test_colours_are_those_that_the_profile_means(self, format: str) -> None:
        assert self.shown(Image.new("RGB", (40, 30), (255, 0, 0)), format) == pytest.approx(
            (0, 255, 0), abs=4
        )

    def test_what_is_measured_is_what_is_shown(self) -> None:
        original = encoded(Image.new("RGB", (40, 30), (255, 0, 0)), icc_profile=red_is_green())

        assert describe(original).dominant_color == "#00ff00"

    def test_transparency_stays_as_it_is(self) -> None:
        assert self.shown(Image.new("RGBA", (40, 30), (255, 0, 0, 128))) == pytest.approx(
            (0, 255, 0, 128), abs=4
        )

    def test_the_colours_of_a_palette_are_meant_too(self) -> None:
        palette = Image.new("RGB", (40, 30), (255, 0, 0)).quantize(2)

        assert self.shown(palette) == pytest.approx((0, 255, 0), abs=4)

    @pytest.mark.parametrize(("mode", "grey"), [("L", (188,) * 3), ("LA", (188, 188, 188, 128))])
    def test_the_greys_of_a_linear_scale_are_lightened(self, mode: str, grey: tuple[int, ...]) -> None:
        picture = Image.new("LA", (40, 30), (128, 128)).convert(mode)

        assert self.shown(picture, profile=linear_greys()) == pytest.approx(grey, abs=4)

    @pytest.mark.parametrize(
        ("mode", "profile"), [("RGB", b"none"), ("CMYK", red_is_green()), ("RGB", linear_greys())]
    )
    def test_a_profile_that_is_none_or_for_other_colours_means_nothing(
        self, mode: str, profile: bytes
    ) -> None:
        red = Image.new("RGB", (40, 30), (255, 0, 0)).convert(mode)

        assert self.shown(red, "JPEG", profile) == pytest.approx((255, 0, 0), abs=4)


class TestRefused:
    @pytest.mark.parametrize(
        ("original", "wrong"),
        [
            (b"", "not a readable picture"),
            (b"<html></html>", "not a readable picture"),
            (encoded(page(), "GIF"), "not a readable picture"),
            (encoded(page(), "BMP"), "not a readable picture"),
            (encoded(page(), "TIFF"), "not a readable picture"),
            (png_header(8000, 8000), "8,000 x 8,000"),
            (png_header(16_384, 10), "16,384 x 10"),
            (png_header(60_000, 60_000), "too many pixels"),
            (png_header(100, 100), "damaged"),
        ],
        ids=["nothing", "html", "gif", "bmp", "tiff", "bomb", "long", "huge bomb", "no pixels"],
    )
    def test_the_error_says_what_is_wrong_and_what_is_accepted(self, original: bytes, wrong: str) -> None:
        with pytest.raises(ImageError, match=wrong) as caught:
            develop(original)
        assert "accepted is a WebP, PNG or JPEG of at most 50,000,000 pixels" in str(caught.value)

    @pytest.mark.parametrize("format", ["WEBP", "PNG", "JPEG"])
    @pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
    def test_a_picture_cut_short_is_refused(self, format: str, part: float) -> None:
        whole = encoded(page(), format)

        with pytest.raises(ImageError):
            describe(whole[: int(len(whole) * part)])

    def test_a_file_that_is_too_long_is_not_even_decoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(images, "MAX_BYTES", 100)

        with pytest.raises(ImageError, match="bytes"):
            describe(encoded(page()))


PEAK = """
import io, resource
from PIL import Image
from catalog.capture import images
buffer = io.BytesIO()
Image.new("RGB", (7000, 7000)).save(buffer, "PNG", compress_level=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images.develop(buffer.getvalue())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.stack("embedded")
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count in other units")
def test_a_large_picture_is_held_once() -> None:
    """It takes hardly more than to make it did, where it was held once as well, and once is 196 MB."""
    command = [sys.executable, "-c", PEAK]
    done = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True)
    assert int(done.stdout) / 1024 < 100


class TestFacts:
    def test_the_hash_is_the_one_that_the_demo_was_made_with(self) -> None:
        galleries = json.loads((DEMO / "manifest.json").read_text())["galleries"]
        items = [gallery["screenshots"][0] for gallery in galleries]
        found = [describe((DEMO / item["file"]).read_bytes()).dhash256 for item in items]

        assert found == [item["dhash256"] for item in items]

    def test_the_digest_is_of_the_bytes_as_they_came(self) -> None:
        original = encoded(page())

        assert describe(original).sha256 == hashlib.sha256(original).hexdigest()

    def test_the_ground_dominates_and_the_vivid_colour_is_the_accent(self) -> None:
        facts = describe(encoded(page()))

        assert (facts.dominant_color, facts.accent_color) == ("#ffffff", "#0d6efd")

    def test_without_any_colour_the_accent_is_the_dominant_one(self) -> None:
        facts = describe(encoded(Image.new("L", (40, 30), 200)))

        assert (facts.dominant_color, facts.accent_color) == ("#c8c8c8", "#c8c8c8")

    def test_transparency_is_seen_as_white(self) -> None:
        facts = describe(encoded(Image.new("RGBA", (40, 30), (255, 0, 0, 0))))

        assert facts.dominant_color == "#ffffff"

    @pytest.mark.parametrize("size", [(1, 1), (1280, 800), (390, 844), (1280, 6000), (2000, 3)])
    def test_the_placeholder_is_base64_that_fits_its_column(self, size: tuple[int, int]) -> None:
        placeholder = describe(encoded(page(*size))).placeholder

        assert len(b64decode(placeholder, validate=True)) >= 5
        assert len(placeholder) <= Screenshot._meta.get_field("placeholder").max_length

    def test_facts_pass_the_models_validators(self) -> None:
        facts = describe(encoded(page()))
        names = ("width", "height", "sha256", "dhash256", "dominant_color", "accent_color", "placeholder")

        for name in names:
            Screenshot._meta.get_field(name).clean(getattr(facts, name), None)


class TestRenditions:
    @pytest.mark.parametrize(
        ("width", "widths"),
        [
            (100, (100,)),
            (319, (319,)),
            (320, (320,)),
            (390, (320,)),
            (1279, (320, 640, 960)),
            (1280, (320, 640, 960, 1280)),
            (5000, (320, 640, 960, 1280)),
        ],
    )
    def test_nothing_is_scaled_up_and_there_is_always_one(self, width: int, widths: tuple[int, ...]) -> None:
        assert rendition_widths(width) == widths

    def test_each_width_comes_as_webp_and_as_jpeg_of_the_same_shape(self) -> None:
        made = renditions(encoded(page(1000, 500)))

        assert [(one.width, one.height, one.format) for one in made] == [
            (320, 160, "webp"),
            (320, 160, "jpeg"),
            (640, 320, "webp"),
            (640, 320, "jpeg"),
            (960, 480, "webp"),
            (960, 480, "jpeg"),
        ]
        for one in made:
            assert opened(one.data).format == one.format.upper()
            assert opened(one.data).size == (one.width, one.height)

    @pytest.mark.parametrize("side", [16, 640])
    def test_noise_is_a_picture_too(self, side: int) -> None:
        noise = Image.frombytes("RGB", (side, side), hashlib.shake_256(b"noise").digest(side * side * 3))

        for one in renditions(encoded(noise)):
            assert opened(one.data).size == (one.width, one.height)

    def test_a_very_flat_picture_stays_one_pixel_high(self) -> None:
        assert {one.height for one in renditions(encoded(page(2000, 1)))} == {1}

    def test_the_same_bytes_give_the_same_bytes(self) -> None:
        original = encoded(page(700, 500))

        assert renditions(original) == renditions(original)

    def test_describing_and_encoding_at_once_gives_the_same(self) -> None:
        original = encoded(page())

        assert develop(original) == (describe(original), renditions(original))

    @pytest.mark.parametrize("format", ["WEBP", "PNG", "JPEG"])
    def test_no_metadata_is_left(self, format: str) -> None:
        exif = Image.Exif()
        exif[0x010E] = "secret"
        original = encoded(page(), format, exif=exif, icc_profile=b"secret", comment=b"secret")

        assert b"secret" in original
        for one in renditions(original):
            assert b"secret" not in one.data

    def test_jpeg_shows_white_where_the_original_shows_nothing(self) -> None:
        made = {
            one.format: one.data for one in renditions(encoded(Image.new("RGBA", (40, 30), (255, 0, 0, 0))))
        }

        assert opened(made["jpeg"]).getpixel((5, 5)) == (255, 255, 255)
        assert opened(made["webp"]).mode == "RGBA"

    def test_a_lossless_webp_loses_nothing_at_its_own_width(self) -> None:
        original = encoded(page(640, 400), "WEBP", lossless=True)
        made = [one.data for one in renditions(original) if (one.width, one.format) == (640, "webp")]

        assert opened(made[0]).tobytes() == opened(original).tobytes()

    @pytest.mark.parametrize("lossless", [True, False])
    def test_what_lies_behind_a_webp_is_in_no_rendition(self, lossless: bool) -> None:
        original = encoded(page(640, 400), "WEBP", lossless=lossless)
        length = int.from_bytes(original[16:20], "little")
        picture, secret = original[20 : 20 + length], b"secret" * 100
        longer = (
            struct.pack("<4sI8sI", b"RIFF", 12 + length + 600, original[8:16], length + 600)
            + picture
            + secret
        )

        for hiding in (longer, original + secret):
            assert not any(b"secret" in one.data for one in renditions(hiding))
