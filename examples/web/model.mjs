// A student in the browser: what a .tflite file of kdkeras says about itself, and how to run it.

import { Tensor, loadAndCompile } from "@litertjs/core";
import { strFromU8, unzipSync } from "fflate";
import { loadInt8 } from "./int8.mjs";
import { pixels } from "./pictures.mjs";

const FORMAT = 1;

// From the pixels 0..255 to what the input takes.
const INPUTS = {
  float32: (values) => Float32Array.from(values, (value) => value / 255),
  uint8: (values) => Uint8Array.from(values),
  int8: (values) => Int8Array.from(values, (value) => value - 128),
};

/**
 * Loads a student. LiteRT.js must have been started with `loadLiteRt`.
 *
 * @param {Uint8Array} bytes The whole file.
 * @returns {Promise<{about: object, labels: string[], look: Function, classify: Function,
 *     delete: Function}>}
 *     `about` is the file's kdkeras.json. `look(picture)` makes the pixels that the student takes
 *     of whatever a canvas can draw (an ImageBitmap, an image, a canvas); `classify(pixels)` gives
 *     one probability per class. Call `delete()` when the student is no longer needed: its memory
 *     is not JavaScript's.
 * @throws {Error} In words for people, if the file is no student that kdkeras wrote.
 */
export async function loadStudent(bytes) {
  const about = readSettings(bytes);
  const [, height, width, channels] = about.input.shape;
  const int8 = [about.input.dtype, about.output.dtype].includes("int8");
  const loading = int8 ? loadInt8(bytes) : loadPlain(bytes, about);
  const network = await loading.catch((error) => {
    const broke = error instanceof WebAssembly.RuntimeError;
    const why = broke ? "it is damaged. Reload the page." : error.message;
    throw new Error(`LiteRT cannot run this file: ${why}`);
  });
  return {
    about,
    labels: about.labels ?? Array.from({ length: about.output.shape[1] }, (_, i) => `class ${i}`),
    look: (picture) => pixels(picture, height, width, channels),
    classify: async (image) =>
      probabilities(await network.run(INPUTS[about.input.dtype](image)), about.output),
    delete: network.delete,
  };
}

/** Whether these are the bytes of a TFLite file. */
export function isTflite(bytes) {
  return bytes.length > 8 && strFromU8(bytes.subarray(4, 8)) === "TFL3";
}

/** The file's kdkeras.json. It is in a zip archive that follows the network in the same file. */
export function readSettings(bytes) {
  if (!isTflite(bytes)) throw new Error("This is not a .tflite file.");
  const about = unzipSettings(bytes);
  if (about.format !== FORMAT) {
    throw new Error(`This file has format ${about.format}; this page reads format ${FORMAT}.`);
  }
  const [batch, , , channels] = about.input.shape;
  if (about.input.shape.length !== 4 || batch !== 1 || ![1, 3].includes(channels)) {
    throw new Error(`This student takes no single picture: its input is [${about.input.shape}].`);
  }
  if (!(about.input.dtype in INPUTS)) {
    throw new Error(`This student's input is ${about.input.dtype}, which this page cannot make.`);
  }
  if (about.labels && about.labels.length !== about.output.shape[1]) {
    throw new Error(
      `This file names ${about.labels.length} classes, and its output has ${about.output.shape[1]}.`,
    );
  }
  return about;
}

function unzipSettings(bytes) {
  try {
    const entries = unzipSync(bytes, { filter: (file) => file.name === "kdkeras.json" });
    return JSON.parse(strFromU8(entries["kdkeras.json"]));
  } catch {
    throw new Error(
      "This file does not say what it takes: there is no kdkeras.json in it. Write it with " +
        "kdkeras.export.tflite; if that is how it was made, it is cut short.",
    );
  }
}

async function loadPlain(bytes, about) {
  const compiled = await loadAndCompile(bytes, { accelerator: "wasm" });
  return {
    async run(values) {
      const image = new Tensor(values, about.input.shape);
      try {
        const outputs = await compiled.run({ [about.input.name]: image });
        const output = outputs[about.output.name];
        const found = await output.data();
        output.delete();
        return found;
      } finally {
        image.delete();
      }
    },
    delete: () => compiled.delete(),
  };
}

function probabilities(values, { name, scale, zero_point: zeroPoint }) {
  const real = scale === null ? [...values] : Array.from(values, (q) => scale * (q - zeroPoint));
  return name === "logits" ? softmax(real) : real;
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}
