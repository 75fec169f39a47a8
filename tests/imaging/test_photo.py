"""Photos as people have them: nothing that the file carries is lost."""

from __future__ import annotations

import io
import struct
import xml.etree.ElementTree
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pyvips
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

from stylize.errors import StylizeError
from stylize.imaging.colour import on_white
from stylize.imaging.files import read_rgb
from stylize.imaging.photo import Frame, Photo, is_own_result, read_photo
from stylize.imaging.write import FORMATS, SIDES, encode_photo, write_photo
from tests.conftest import SRGB, SWAPPED, make_picture, save_picture

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf/></x:xmpmeta>'


def deep_file(path: Path, bands: int = 3, profile: bytes = b"") -> npt.NDArray[np.uint16]:
    """A 16-bit file with more levels than 8 bits have; its values."""
    ramp = np.linspace(0, 65535, 40 * 50 * bands).astype(np.uint16).reshape(40, 50, bands)
    image = pyvips.Image.new_from_array(ramp).copy(
        interpretation="rgb16" if bands > 2 else "grey16"
    )
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    image.write_to_file(str(path))
    return ramp


@pytest.mark.parametrize("kind", [np.float32, np.uint32])
def test_colour_of_32_bits_is_refused(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "deepest.tif"
    pyvips.Image.new_from_array(np.ones((4, 5, 3), kind)).write_to_file(str(path))
    for source in (path, path.read_bytes()):
        with pytest.raises(StylizeError, match="32 bits; save it with 16 or 8"):
            read_photo(source)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "avif"])
def test_metadata_survives(tmp_path: Path, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x010E] = 6, "Camera", "my holiday"
    exif.get_ifd(0x8769)[0x829A] = 0.01  # exposure time
    exif[0x0100], exif[0x0101] = 50, 30  # as it lies
    source = tmp_path / f"photo.{ending}"
    picture = Image.fromarray(make_picture(30, 50))
    if ending == "tif":
        exif[700] = XMP
    words = PngInfo()  # in which Pillow takes a PNG's XMP; other formats' writers pass it over
    words.add_itxt("XML:com.adobe.xmp", XMP.decode())
    picture.save(source, exif=exif, xmp=XMP, pnginfo=words, dpi=(240, 240), icc_profile=SWAPPED)
    photo = read_photo(source)
    assert photo.size == (50, 30)  # upright
    target = tmp_path / f"out.{ending}"
    write_photo(target, photo, "stylize 9")
    with Image.open(target) as image:
        found = image.getexif()
        assert found[0x010F] == "Camera"
        assert found[0x010E] == "my holiday"
        assert 0x0112 not in found
        if ending == "jpg" or 0x0100 in found:
            assert (found[0x0100], found[0x0101]) == (30, 50)
        assert found[0x0131] == "stylize 9"
        if ending != "tif":  # to which Pillow, which wrote the photo, gave no further tables
            assert found.get_ifd(0x8769)[0x829A] == pytest.approx(0.01)
        assert image.info["icc_profile"] == SWAPPED
        if ending in ("jpg", "tif"):
            assert image.info["dpi"] == (240, 240)
        assert image.info["xmp"] == XMP


def camera_exif() -> Image.Exif:
    """What phones and cameras write, tables in tables included."""
    exif = Image.Exif()
    exif[0x010F], exif[0x4746], exif[0x9C9B] = "Camera", 5, "title".encode("utf-16le")
    exif[0x0213], exif[0xC4A5] = 1, b"PrintIM\x000300"  # where chroma lies; a printer's table
    exif[0x8825] = {1: "N", 2: (IFDRational(47), IFDRational(3), IFDRational(1, 2))}
    exif[0x8769] = {0x829A: IFDRational(1, 100), 0x927C: b"maker" * 9, 0xA005: {1: "R98"}}
    return exif


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "avif"])
def test_a_cameras_metadata_goes_into_every_format(tmp_path: Path, ending: str) -> None:
    source, target = tmp_path / "photo.jpg", tmp_path / f"out.{ending}"
    Image.fromarray(make_picture(30, 50)).save(source, exif=camera_exif())
    for path, made in ((source, target), (target, tmp_path / "again.jpg")):
        write_photo(made, read_photo(path), "stylize 9")
        with Image.open(made) as image:
            found = image.getexif()
            assert (found[0x010F], found[0x4746]) == ("Camera", 5)
            assert found.get_ifd(0x8825)[1] == "N"
            assert found.get_ifd(0x8769)[0x829A] == pytest.approx(0.01)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "avif"])
def test_metadata_that_cannot_be_written_costs_no_picture(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save = Image.Image.save

    def refuse(image: Image.Image, *arguments: Any, exif: bytes = b"", **more: Any) -> None:
        if b"Camera" in exif:
            raise RuntimeError("Error setting\nfrom dictionary")
        save(image, *arguments, exif=exif, **more)

    photo = Photo([Frame(make_picture(30, 50))], exif=camera_exif().tobytes())
    monkeypatch.setattr(Image.Image, "save", refuse)
    write_photo(tmp_path / f"out.{ending}", photo, "stylize 9")
    said = (
        f"out.{ending}: without the photo's metadata, which cannot be written: Error setting from"
    )
    assert said in caplog.text  # in one line
    assert is_own_result(tmp_path / f"out.{ending}")


def exif_with_thumbnail() -> bytes:
    """Exif whose second table holds a JPEG, as cameras write it."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, "JPEG")
    thumbnail = buffer.getvalue()

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        return struct.pack("<HHII", tag, kind, count, value)

    first = struct.pack("<H", 1) + entry(0x010F, 2, 4, int.from_bytes(b"Cam\0", "little"))
    second_at = 8 + len(first) + 4
    jpeg_at = second_at + 2 + 3 * 12 + 4
    second = struct.pack("<H", 3) + entry(0x0103, 3, 1, 6)
    second += entry(0x0201, 4, 1, jpeg_at) + entry(0x0202, 4, 1, len(thumbnail))
    tables = first + struct.pack("<I", second_at) + second + struct.pack("<I", 0)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + tables + thumbnail


def test_xmp_claims_no_film_and_no_gain_map_that_the_result_lacks(tmp_path: Path) -> None:
    """As phones write it: https://developer.android.com/media/platform/motion-photo-format."""
    xmp = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="r"><rdf:Description
      xmlns:hdrgm="h" xmlns:GCamera="g" xmlns:Camera="c" xmlns:dc="d" xmlns:Container="n"
      xmlns:Item="i" hdrgm:Version="1.0" GCamera:MotionPhoto="1" Camera:MotionPhotoVersion='1'
      GCamera:MicroVideoOffset="4" dc:rights="mine" GCamera:Portrait="p"><Container:Directory>
      <rdf:Seq><rdf:li><Container:Item Item:Semantic="MotionPhoto" Item:Length="9"/></rdf:li>
      </rdf:Seq></Container:Directory><dc:title>sea</dc:title></rdf:Description></rdf:RDF>
      </x:xmpmeta>"""
    path = tmp_path / "photo.jpg"
    Image.fromarray(make_picture(30, 50)).save(path, xmp=xmp)
    write_photo(tmp_path / "out.jpg", read_photo(path), "stylize 9")
    with Image.open(tmp_path / "out.jpg") as image:
        kept = image.info["xmp"]
    for gone in (b"MotionPhoto", b"MicroVideo", b"hdrgm:Version", b"Directory", b"Item:"):
        assert gone in xmp
        assert gone not in kept
    for there in (b'dc:rights="mine"', b'GCamera:Portrait="p"', b"<dc:title>sea</dc:title>"):
        assert there in kept
    xml.etree.ElementTree.fromstring(kept)


def test_a_thumbnail_of_the_old_picture_does_not_survive(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(make_picture(30, 50)).save(path, exif=exif_with_thumbnail())
    with Image.open(path) as image:
        assert image.getexif().get_ifd(ExifTags.IFD.IFD1)
    write_photo(tmp_path / "out.jpg", read_photo(path), "stylize 9")
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.getexif()[0x010F] == "Cam"
        assert not image.getexif().get_ifd(ExifTags.IFD.IFD1)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_sixteen_bits_stay_sixteen(tmp_path: Path, ending: str, bands: int) -> None:
    values = deep_file(tmp_path / f"deep.{ending}", bands)
    photo = read_photo(tmp_path / f"deep.{ending}")
    frame = photo.frames[0]
    assert frame.pixels.dtype == np.uint16
    colours = values[..., :3] if bands > 2 else np.repeat(values[..., :1], 3, axis=2)
    assert np.array_equal(frame.pixels, colours)
    assert (frame.alpha is not None) == (bands in (2, 4))
    write_photo(tmp_path / f"out.{ending}", photo, "stylize 9")
    again = read_photo(tmp_path / f"out.{ending}").frames[0]
    assert np.array_equal(again.pixels, colours)
    assert np.unique(again.pixels).size > 256
    assert is_own_result(tmp_path / f"out.{ending}")


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"deep.{ending}"
    for level in (1000, 2000):
        write_photo(path, Photo([Frame(np.full((8, level // 100, 3), level, np.uint16))]))
        pixels = read_photo(path).frames[0].pixels
        assert pixels.shape == (8, level // 100, 3)
        assert (pixels == level).all()


def test_sixteen_bits_keep_their_profile(tmp_path: Path) -> None:
    deep_file(tmp_path / "deep.png", profile=SWAPPED)
    photo = read_photo(tmp_path / "deep.png")
    assert photo.profile == SWAPPED
    write_photo(tmp_path / "out.png", photo)
    assert read_photo(tmp_path / "out.png").profile == SWAPPED


@pytest.mark.parametrize(("ending", "mode"), [("gif", "P"), ("webp", "RGB"), ("png", "RGB")])
def test_animations_keep_their_frames_and_durations(tmp_path: Path, ending: str, mode: str) -> None:
    frames = [Image.fromarray(make_picture(20, 24, seed)).convert(mode) for seed in range(3)]
    source = tmp_path / f"moving.{ending}"
    frames[0].save(
        source, save_all=True, append_images=frames[1:], duration=[100, 200, 300], loop=2
    )
    photo = read_photo(source)
    assert [frame.duration for frame in photo.frames] == [100, 200, 300]
    target = tmp_path / f"out.{ending}"
    write_photo(target, photo, "stylize 9")
    again = read_photo(target)
    assert [frame.duration for frame in again.frames] == [100, 200, 300]
    assert again.loop == 2
    for before, after in zip(photo.frames, again.frames, strict=True):
        difference = np.abs(before.pixels.astype(int) - after.pixels).mean()
        assert difference < 12  # a palette of 256 colours, or WebP's quantisation
    write_photo(tmp_path / "first.jpg", photo)
    assert len(read_photo(tmp_path / "first.jpg").frames) == 1


def test_several_pictures_in_a_tiff_are_no_animation(tmp_path: Path) -> None:
    pages = [Image.fromarray(make_picture(20, 24, seed)) for seed in range(2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    assert len(read_photo(tmp_path / "pages.tif").frames) == 1


def test_heic(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = make_picture(64, 80)
    heif = pillow_heif.from_bytes("RGB", (80, 64), pixels.tobytes())
    heif.save(tmp_path / "phone.heic", quality=95)
    found = read_photo(tmp_path / "phone.heic").frames[0].pixels
    assert np.abs(found.astype(int) - pixels).mean() < 12  # colour at half resolution, noise lost


def test_grey_palette_and_cmyk_become_srgb(tmp_path: Path) -> None:
    for mode in ("1", "L", "P", "CMYK"):
        path = tmp_path / "photo.tif"
        Image.fromarray(make_picture(20, 30)).convert(mode).save(path)
        photo = read_photo(path)
        assert photo.profile is None
        assert photo.frames[0].pixels.shape == (20, 30, 3)


def test_a_profile_of_another_kind_is_no_profile(tmp_path: Path) -> None:
    pixels = make_picture(16, 16)
    Image.fromarray(pixels).save(tmp_path / "broken.png", icc_profile=b"no profile")
    photo = read_photo(tmp_path / "broken.png")
    assert photo.profile is None
    assert np.array_equal(photo.frames[0].pixels, pixels)


def test_too_many_pixels_name_the_option(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "photo.png", 100, 100)
    with pytest.raises(StylizeError, match=r"has 100 x 100 pixels.*--max-megapixels 1 raises that"):
        read_photo(path, max_megapixels=0.009)
    deep_file(tmp_path / "deep.png")
    with pytest.raises(StylizeError, match="--max-megapixels"):
        read_photo(tmp_path / "deep.png", max_megapixels=0.001)


def test_a_small_file_that_claims_to_be_huge_is_refused_at_once(tmp_path: Path) -> None:
    data = bytearray(save_picture(tmp_path / "bomb.png").read_bytes())
    data[16:24] = struct.pack(">II", 12000, 14000)  # below Pillow's own limit
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(StylizeError, match="--max-megapixels 169"):
        read_photo(bytes(data), max_megapixels=100)
    data[16:24] = struct.pack(">II", 120000, 140000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(StylizeError, match="larger than stylize reads"):
        read_photo(bytes(data))


def test_pillows_own_limit_stays_as_it_was(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    read_photo(save_picture(tmp_path / "photo.png"))
    assert before == Image.MAX_IMAGE_PIXELS
    assert before is not None


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "gif", "bmp", "avif", "deep.png"])
def test_truncated_files_are_one_line(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"whole.{ending}"
    if ending == "deep.png":
        deep_file(path)
    else:
        Image.fromarray(make_picture(90, 120)).save(path)
    data = path.read_bytes()
    reasons = []
    for part in (0.02, 0.3, 0.6, 0.9):
        cut = tmp_path / f"cut.{ending}"
        cut.write_bytes(data[: int(len(data) * part)])
        try:
            read_photo(cut)
        except StylizeError as error:
            reasons.append(str(error))
    assert all(str(cut) in reason and "\n" not in reason for reason in reasons)
    assert len(reasons) >= 2  # what a decoder accepts without its last bytes is its own affair


@given(
    st.lists(
        st.tuples(st.one_of(st.integers(0, 400), st.integers(0, 4000)), st.integers(0, 255)),
        max_size=200,
    ),
    st.sampled_from(["jpg", "png", "webp", "tif", "gif", "avif", "dds"]),
    st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF"]),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_corrupt_bytes_never_raise_anything_else(
    noise: list[tuple[int, int]], ending: str, target: str
) -> None:
    buffer = io.BytesIO()
    kind = Image.registered_extensions()[f".{ending}"]
    options = {} if ending in ("gif", "dds", "tif") else {"exif": camera_exif()}
    Image.fromarray(make_picture(24, 24)).save(buffer, kind, **options)
    data = bytearray(buffer.getvalue())
    for place, byte in noise:  # all over the file, and half in its header
        data[place % len(data)] ^= byte
    try:
        photo = read_photo(bytes(data), max_megapixels=1)
    except StylizeError:
        return
    assert photo.frames
    if max(photo.size) <= SIDES.get(target, 1_000_000):
        assert encode_photo(photo, target)


def test_readers_that_raise_something_unheard_of_are_one_line(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(make_picture(8, 8)).save(buffer, "DDS")
    data = bytearray(buffer.getvalue())
    data[80] = 1  # flags of the pixels' format: Pillow raises NotImplementedError
    (tmp_path / "photo.dds").write_bytes(data)
    with pytest.raises(StylizeError, match="is no readable picture"):
        read_photo(tmp_path / "photo.dds")


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_a_photo_with_damaged_exif_is_read_without(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, pixels = tmp_path / f"photo.{ending}", make_picture(20, 30)
    Image.fromarray(pixels).save(path, exif=camera_exif())
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"MM\0*", b"MM\0\0"))  # no such format
    assert path.read_bytes() != whole
    photo = read_photo(path)
    assert (photo.size, photo.exif) == ((20, 30), b"")
    assert f"photo.{ending}: its Exif is damaged" in caplog.text
    assert read_rgb(path).shape == (20, 30, 3)


def test_a_transparent_colour_of_a_png_with_a_profile(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 1, 2, 3
    image = Image.fromarray(pixels)
    image.save(tmp_path / "photo.png", transparency=(1, 2, 3), icc_profile=SRGB)
    photo = read_photo(tmp_path / "photo.png")
    alpha = photo.frames[0].alpha
    assert alpha is not None
    assert not alpha[:4].any()
    assert (alpha[4:] == 255).all()
    assert np.array_equal(photo.frames[0].pixels, pixels)


@given(
    st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"]),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 8),
    st.sampled_from(sorted(set(FORMATS.values()))),
)
@settings(max_examples=100, deadline=None)
def test_modes_sizes_and_orientations(
    mode: str, height: int, width: int, orientation: int, target: str
) -> None:
    exif = Image.Exif() if mode == "CMYK" else camera_exif()  # Pillow writes no such TIFF
    exif[0x0112] = orientation
    image = Image.fromarray(make_picture(height, width)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF" if mode == "CMYK" else "PNG", exif=exif)
    photo = read_photo(buffer.getvalue())
    assert photo.size == ((width, height) if orientation > 4 else (height, width))
    assert (photo.frames[0].alpha is not None) == (mode in ("LA", "RGBA"))
    again = read_photo(encode_photo(photo, target, "stylize 9"))
    assert (again.size, again.format) == (photo.size, target)
    if target in ("PNG", "TIFF", "BMP", "PPM"):  # which lose nothing
        seen = (on_white(one.frames[0].pixels, one.frames[0].alpha) for one in (photo, again))
        # Transparency put on white beforehand is rounded once more.
        assert np.abs(np.subtract(*(pixels.astype(int) for pixels in seen))).max() <= 1


def test_standard_srgb_profiles_are_kept_too(tmp_path: Path) -> None:
    Image.fromarray(make_picture(16, 16)).save(tmp_path / "photo.jpg", icc_profile=SRGB)
    photo: Photo = read_photo(tmp_path / "photo.jpg")
    assert photo.profile == SRGB


def test_what_is_no_result_of_ours(tmp_path: Path) -> None:
    path = save_picture(tmp_path / "photo.png")
    assert not is_own_result(path)
    (tmp_path / "text.jpg").write_text("stylize ")
    assert not is_own_result(tmp_path / "text.jpg")
    exif: Any = Image.Exif()
    exif[0x0131] = "stylist"
    Image.fromarray(make_picture(8, 8)).save(tmp_path / "other.jpg", exif=exif)
    assert not is_own_result(tmp_path / "other.jpg")
