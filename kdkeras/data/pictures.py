"""Decoding: encoded bytes or pixels in, uint8 RGB of one size out."""

import struct

import tensorflow as tf

# A picture that declares more pixels than this is refused before it is decoded: a file of a few
# kilobytes can declare gigabytes. 2^26 is 8192 x 8192, 192 MiB when decoded.
MAX_PIXELS = 2**26
# All frames of a GIF are decoded, at a byte a pixel, to take the first.
MAX_GIF_PIXELS = 4 * MAX_PIXELS

FORMATS = "PNG, JPEG, GIF, BMP or WebP"


def decode(contents):
    """Decodes an encoded picture to uint8 `(height, width, 3)`; the first frame of a GIF.

    Grey becomes three equal channels, transparent pixels are laid over white, CMYK becomes RGB.
    EXIF rotation is not applied: rotate such photographs beforehand.

    Args:
        contents: Scalar string tensor.
    """
    image = tf.cond(
        tf.io.is_jpeg(contents),
        lambda: tf.io.decode_jpeg(contents, channels=3),
        lambda: tf.io.decode_image(contents, channels=0, expand_animations=False),
    )
    image.set_shape([None, None, None])
    return rgb(image)


def rgb(image):
    """A picture of 1 to 4 channels (grey, grey + alpha, RGB, RGB + alpha) as uint8 RGB."""
    if image.shape[-1] == 3:
        return image
    if image.shape[-1] == 1:
        return tf.repeat(image, 3, axis=-1)
    height, width, channels = tf.unstack(tf.shape(image))
    has_alpha = tf.equal(channels % 2, 0)
    colours = tf.cast(image[..., : channels - tf.cast(has_alpha, tf.int32)], tf.float32)
    alpha = tf.cast(image[..., -1:], tf.float32) / 255.0
    over_white = tf.where(has_alpha, alpha * colours + (1.0 - alpha) * 255.0, colours)
    return to_uint8(tf.broadcast_to(over_white, [height, width, 3]))


def square(image, size):
    """The largest centred square of a uint8 picture, resized (bilinear, antialiased) to `size`.

    This is the short side resized to `size` and a centre crop, the crop done first so that a very
    long picture costs no more than its square.
    """
    height, width, _ = tf.unstack(tf.shape(image))
    side = tf.minimum(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    crop = image[top : top + side, left : left + side]
    resized = to_uint8(tf.image.resize(crop, [size, size], antialias=True))
    return tf.ensure_shape(resized, [size, size, 3])


def to_uint8(image):
    """Rounds to the nearest of 0 ... 255."""
    return tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)


def check_header(contents):
    """Raises a `ValueError` if the bytes are no picture that can be decoded safely.

    Args:
        contents: The file's bytes.
    """
    try:
        width, height = _declared_size(contents)
    except struct.error:
        raise ValueError("the file is cut short") from None
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"it declares {width} x {height} pixels, more than {MAX_PIXELS:,}; scale it down"
        )
    if not width * height:
        raise ValueError("it declares no pixels")


def _declared_size(contents):
    if contents[:8] == b"\x89PNG\r\n\x1a\n":
        first, width, height = struct.unpack_from(">4sII", contents, 12)
        if first != b"IHDR":
            # Decoders pass over a chunk that they do not know, and find the size after it.
            raise ValueError("it is a damaged PNG")
        return width, height
    if contents[:3] == b"\xff\xd8\xff":
        return _jpeg_size(contents)
    if contents[:6] in (b"GIF87a", b"GIF89a"):
        return _gif_size(contents)
    if contents[:2] == b"BM":
        width, height, _, bits = struct.unpack_from("<iiHH", contents, 18)
        if bits not in (24, 32):
            # TensorFlow takes a palette's indices for grey levels.
            raise ValueError(f"it is a BMP of {bits} bits a pixel; save it as PNG")
        return abs(width), abs(height)
    if contents[:4] == b"RIFF" and contents[8:12] == b"WEBP":
        return _webp_size(contents)
    raise ValueError(f"it is no {FORMATS}")


def _gif_size(contents):
    """The largest of the screen and the frames: the decoder goes by the frames."""
    width, height, flags = struct.unpack_from("<HHB", contents, 6)
    position, together = 13 + _palette(flags), 0
    while contents[position : position + 1] in (b"!", b","):
        if contents[position] == ord("!"):
            position = _after_blocks(contents, position + 2)
            continue
        wide, high, flags = struct.unpack_from("<4xHHB", contents, position + 1)
        width, height, together = max(width, wide), max(height, high), together + wide * high
        if together > MAX_GIF_PIXELS:
            raise ValueError(
                f"its frames declare more than {MAX_GIF_PIXELS:,} pixels together; save one frame"
            )
        position = _after_blocks(contents, position + 11 + _palette(flags))
    return width, height


def _palette(flags):
    """Bytes of the palette that a GIF's flags announce."""
    return 3 * 2 ** (1 + flags % 8) if flags & 128 else 0


def _after_blocks(contents, position):
    """Where a GIF's row of blocks ends, each its length and so many bytes; the last of length 0."""
    while position < len(contents) and contents[position]:
        position += 1 + contents[position]
    return position + 1


def _jpeg_size(contents):
    position = 2
    while True:
        marker, length = struct.unpack_from(">HH", contents, position)
        # Start-of-frame markers: all of FFC0 ... FFCF but tables, extensions and coding.
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            height, width = struct.unpack_from(">HH", contents, position + 5)
            return width, height
        if marker == 0xFFFF:  # A fill byte.
            position += 1
        elif marker < 0xFF02 or 0xFFD0 <= marker <= 0xFFD9:
            # No marker, or one without a length, after which decoders find another size than here.
            raise ValueError("it is a damaged JPEG")
        else:
            position += 2 + length


def _webp_size(contents):
    kind = contents[12:16]
    if kind == b"VP8X":
        flags, low_width, high_width, low_height, high_height = struct.unpack_from(
            "<B3xHBHB", contents, 20
        )
        if flags & 2:
            # TensorFlow 2.21's decoder corrupts the process's memory on these.
            raise ValueError("it is an animated WebP; save one frame")
        return 1 + low_width + (high_width << 16), 1 + low_height + (high_height << 16)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", contents, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind != b"VP8 ":
        raise ValueError("it is a damaged WebP")
    width, height = struct.unpack_from("<HH", contents, 26)
    return width & 0x3FFF, height & 0x3FFF
