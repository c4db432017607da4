// Drives the page in a headless Chromium, as a person would, and prints what it showed.
//
// node test.mjs JOB.json, where JOB.json holds
//   {"students": [{"file": PATH, "pictures": [PATH, ...]}, ...], "wrong": [PATH, ...]}
// The first student is served; the others, and the wrong files, are given to the page.
// Prints {"answers": [[{LABEL: PROBABILITY}, ...], ...], "dropped", "pasted", "drawn": {...},
//   "wrong": [TEXT, ...], "afterwards": {...}, "errors": [TEXT, ...], "elsewhere": [URL, ...]}
// tests/test_web.py judges it.

import { readFileSync } from "node:fs";
import path from "node:path";
import { chromium } from "playwright-core";
import { serve } from "./serve.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
const LOCAL = ["--disable-background-networking", "--disable-component-update", "--disable-sync"];

const job = JSON.parse(readFileSync(process.argv[2]));
const server = await serve(job.students[0].file, 0);
const address = `http://127.0.0.1:${server.address().port}/`;
const browser = await chromium.launch({ executablePath: CHROMIUM, args: [...QUIET, ...LOCAL] });
const page = await browser.newPage();
const found = { answers: [], wrong: [], errors: [], elsewhere: [] };
page.on("console", (message) => message.type() === "error" && found.errors.push(message.text()));
page.on("pageerror", (error) => found.errors.push(String(error)));
page.on("request", (request) => {
  if (!request.url().startsWith(address) && request.url() !== "data:,") {
    found.elsewhere.push(request.url());
  }
});

/** Does something, and waits for what it changes in one of the page's texts. */
async function textAfter(id, start, action) {
  await page.evaluate((id) => (document.getElementById(id).textContent = ""), id);
  await action();
  const changed = ([id, start]) => {
    const { hidden, textContent } = document.getElementById(id);
    return !hidden && textContent !== "" && textContent.startsWith(start);
  };
  await page.waitForFunction(changed, [id, start], { timeout: 20_000 });
  return page.textContent(`#${id}`);
}

async function answer(name, action) {
  await textAfter("best", `${name}: `, action);
  return page.$$eval("#bars li", (items) =>
    Object.fromEntries(
      items.map((item) => [
        item.querySelector(".label").textContent,
        Number(item.dataset.probability),
      ]),
    ),
  );
}

const choose = (input, file) => page.setInputFiles(input, file);
const look = (file) => answer(path.basename(file), () => choose("#picture", file));

/** A drop or a paste of a file. */
async function hand(type, file) {
  const bytes = [...readFileSync(file)];
  await page.evaluate(
    ([type, name, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], name));
      const event =
        type === "drop"
          ? new DragEvent("drop", { dataTransfer: data, bubbles: true })
          : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
      document.body.dispatchEvent(event);
    },
    [type, path.basename(file), bytes],
  );
}

async function draw() {
  const box = await page.locator("#drawing").boundingBox();
  const at = (x, y) => page.mouse.move(box.x + x * box.width, box.y + y * box.height);
  await at(0.5, 0.15);
  await page.mouse.down();
  await at(0.5, 0.5);
  await at(0.5, 0.85);
  await page.mouse.up();
}

try {
  const named = path.basename(job.students[0].file);
  await page.goto(address);
  await page.waitForFunction(() => document.getElementById("model").textContent.includes("classes"));
  for (const [index, { file, pictures }] of job.students.entries()) {
    if (index) await textAfter("model", path.basename(file), () => choose("#file", file));
    const answers = [];
    for (const picture of pictures) answers.push(await look(picture));
    found.answers.push(answers);
  }
  const [{ file, pictures }] = job.students;
  const name = path.basename(pictures[0]);
  await textAfter("model", named, () => hand("drop", file));
  found.dropped = await answer(name, () => hand("drop", pictures[0]));
  found.pasted = await answer(name, () => hand("paste", pictures[0]));
  found.drawn = await answer("The drawing", draw);
  for (const wrong of job.wrong) {
    found.wrong.push(await textAfter("error", "", () => hand("drop", wrong)));
  }
  found.afterwards = await look(pictures[0]);
} finally {
  await browser.close();
  server.close();
}
console.log(JSON.stringify(found));
