// From a picture to the pixels that a student takes: the arithmetic of `kdkeras predict`.

const MAX_PIXELS = 2 ** 26;

/** Decodes a file; turned upright, its colours as stored. */
export async function decode(file) {
  let picture;
  try {
    picture = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${file.name} is no picture that this browser can read.`);
  }
  if (picture.width * picture.height > MAX_PIXELS) {
    throw new Error(`${file.name} has more than ${MAX_PIXELS} pixels.`);
  }
  return picture;
}

/**
 * The largest centred part of a picture that has the wanted proportions, resized to
 * `height` x `width`: values 0..255 in rows, `channels` (1 or 3) to a pixel.
 */
export function pixels(picture, height, width, channels) {
  const rgb = resize(crop(picture, height, width), height, width);
  return channels === 3 ? rgb : grey(rgb);
}

/** RGBA over white. */
function crop(picture, height, width) {
  const scale = Math.min(picture.width / width, picture.height / height);
  const size = { width: Math.round(scale * width), height: Math.round(scale * height) };
  const left = Math.floor((picture.width - size.width) / 2);
  const top = Math.floor((picture.height - size.height) / 2);
  const context = new OffscreenCanvas(size.width, size.height).getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, size.width, size.height);
  context.drawImage(picture, -left, -top);
  return context.getImageData(0, 0, size.width, size.height);
}

/** Bilinear, antialiased: `tf.image.resize(..., antialias=True)`. RGBA in, RGB out. */
function resize(rgba, height, width) {
  const { data } = rgba;
  const columns = weights(rgba.width, width);
  const rows = new Float32Array(rgba.height * width * 3);
  for (let y = 0, at = 0; y < rgba.height; y++) {
    for (const { start, taps } of columns) {
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        const first = (y * rgba.width + start) * 4 + c;
        for (let k = 0; k < taps.length; k++) sum += taps[k] * data[first + 4 * k];
        rows[at++] = sum;
      }
    }
  }
  // A clamped array rounds to the nearest of 0..255, halves to even, as TensorFlow does.
  const rgb = new Uint8ClampedArray(height * width * 3);
  weights(rgba.height, height).forEach(({ start, taps }, y) => {
    for (let x = 0; x < width * 3; x++) {
      let sum = 0;
      for (let k = 0; k < taps.length; k++) sum += taps[k] * rows[(start + k) * width * 3 + x];
      rgb[y * width * 3 + x] = sum;
    }
  });
  return rgb;
}

/** The triangle filter along one axis: for each new pixel, the first old one and its weights. */
function weights(from, to) {
  const radius = Math.max(from / to, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = ((i + 0.5) * from) / to;
    const start = Math.max(Math.ceil(centre - radius - 0.5), 0);
    const end = Math.min(Math.floor(centre + radius - 0.5), from - 1);
    const taps = Array.from(
      { length: end - start + 1 },
      (_, k) => 1 - Math.abs(start + k + 0.5 - centre) / radius,
    );
    const sum = taps.reduce((a, b) => a + b);
    return { start, taps: taps.map((tap) => tap / sum) };
  });
}

function grey(rgb) {
  return Uint8ClampedArray.from({ length: rgb.length / 3 }, (_, i) => {
    const [red, green, blue] = rgb.subarray(3 * i, 3 * i + 3);
    return 0.299 * red + 0.587 * green + 0.114 * blue;
  });
}
