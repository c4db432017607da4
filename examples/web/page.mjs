// The page: pictures and drawings in, bars out.

import { loadLiteRt } from "@litertjs/core";
import { isTflite, loadStudent } from "./model.mjs";
import { decode } from "./pictures.mjs";

const WASM = "./node_modules/@litertjs/core/wasm/";
const BARS = 10;
const PEN = 24;

const element = (id) => document.getElementById(id);
const drawing = element("drawing");
const pen = drawing.getContext("2d", { willReadFrequently: true });

let student = null;
let shown = null; // {picture, name} of the answer on the page
let work = Promise.resolve();

/** One thing after the other; what goes wrong is said on the page. */
function queue(task) {
  work = work
    .then(() => {
      element("error").hidden = true;
      return task();
    })
    .catch((error) => {
      element("error").textContent = error.message;
      element("error").hidden = false;
    });
}

async function start() {
  // LiteRT writes all it has to say as errors; only those that are stay such.
  globalThis.Module = {
    printErr: (line) => (line.startsWith("ERROR") ? console.error(line) : console.debug(line)),
  };
  await loadLiteRt(WASM);
  const response = await fetch("student.tflite");
  if (response.status === 200) {
    await useStudent(new Uint8Array(await response.arrayBuffer()), "student.tflite");
  } else {
    element("model").textContent = "No student yet: choose its .tflite file, or drop it here.";
  }
}

async function useStudent(bytes, name) {
  const next = await loadStudent(bytes);
  student?.delete();
  student = next;
  const { input, precision } = student.about;
  const [, height, width, channels] = input.shape;
  element("model").textContent =
    `${name}: ${height} × ${width} pixels in ${channels === 1 ? "grey" : "colour"}, ` +
    `${student.labels.length} classes, ${precision}, ${Math.ceil(bytes.length / 1000)} kB`;
  if (shown) await classify(shown);
}

async function useFile(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (isTflite(bytes) || file.name.endsWith(".tflite")) return useStudent(bytes, file.name);
  await classify({ picture: await decode(file), name: file.name });
}

async function classify({ picture, name }) {
  if (!student) throw new Error("There is no student yet: choose its .tflite file first.");
  const pixels = student.look(picture);
  const probabilities = await student.classify(pixels);
  shown = { picture, name };
  showSeen(pixels);
  showBars(probabilities, name);
}

/** The picture as the student gets it. */
function showSeen(pixels) {
  const [, height, width, channels] = student.about.input.shape;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const pixel = Array.from({ length: 3 }, (_, c) => pixels[channels === 1 ? i : 3 * i + c]);
    image.data.set([...pixel, 255], 4 * i);
  }
  Object.assign(element("seen"), { width, height, hidden: false });
  element("seen").getContext("2d").putImageData(image, 0, 0);
}

function showBars(probabilities, name) {
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const bars = order.slice(0, BARS).map((index) => bar(student.labels[index], probabilities[index]));
  element("bars").replaceChildren(...bars);
  element("best").textContent =
    `${name}: ${student.labels[order[0]]}, ${percent(probabilities[order[0]])}`;
}

function bar(label, probability) {
  const item = document.createElement("li");
  item.dataset.probability = probability;
  item.style.setProperty("--probability", probability);
  item.append(span("label", label), span("track", ""), span("value", percent(probability)));
  return item;
}

function span(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}

function percent(probability) {
  return `${(100 * probability).toFixed(1)}%`;
}

function clearDrawing() {
  pen.fillStyle = "black";
  pen.fillRect(0, 0, drawing.width, drawing.height);
}

function drawTo(event) {
  const scale = drawing.width / drawing.clientWidth;
  Object.assign(pen, { lineWidth: PEN, lineCap: "round", lineJoin: "round", strokeStyle: "white" });
  pen.lineTo(event.offsetX * scale, event.offsetY * scale);
  pen.stroke();
}

drawing.addEventListener("pointerdown", (event) => {
  drawing.setPointerCapture(event.pointerId);
  pen.beginPath();
  drawTo(event);
});
drawing.addEventListener("pointermove", (event) => {
  if (drawing.hasPointerCapture(event.pointerId)) drawTo(event);
});
drawing.addEventListener("pointerup", () => {
  queue(() => classify({ picture: drawing, name: "The drawing" }));
});
element("clear").addEventListener("click", clearDrawing);

for (const id of ["picture", "file"]) {
  element(id).addEventListener("change", ({ target }) => {
    for (const file of target.files) queue(() => useFile(file));
    target.value = ""; // so that the same file can be chosen again
  });
}
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  for (const file of event.dataTransfer.files) queue(() => useFile(file));
});
document.addEventListener("paste", (event) => {
  for (const file of event.clipboardData.files) queue(() => useFile(file));
});

clearDrawing();
queue(start);
