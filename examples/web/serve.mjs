// Serves the page, and a student, to this computer alone: npm start -- FILE [--port=8000]

import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const PAGE = ["index.html", "style.css", "page.mjs", "model.mjs", "int8.mjs", "pictures.mjs"];
const PACKAGES = ["@litertjs/core", "@litertjs/wasm-utils", "fflate"];
const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".wasm": "application/wasm",
};

/**
 * Serves the page on 127.0.0.1.
 *
 * @param {string|null} student The .tflite file; without one, the page asks for it.
 * @param {number} port 0 for any that is free.
 * @returns {Promise<import("node:http").Server>}
 */
export function serve(student, port) {
  const server = createServer((request, response) => {
    const name = decoded(new URL(request.url, "http://localhost").pathname);
    if (name === "/student.tflite" && !student) return answer(response, 204);
    const file = name === "/student.tflite" ? student : fileOf(name);
    if (!file || !isFile(file)) return answer(response, 404);
    answer(response, 200, file);
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

function answer(response, status, file) {
  const type = TYPES[path.extname(file ?? "")] ?? "application/octet-stream";
  const headers = { "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff" };
  response.writeHead(status, file ? { ...headers, "Content-Type": type } : headers);
  if (!file) return response.end();
  createReadStream(file)
    .on("error", () => response.destroy())
    .pipe(response);
}

/** The file that an address stands for: one of the page's own, or of the packages it uses. */
function fileOf(name) {
  const file = path.join(HERE, name === "/" ? "index.html" : name);
  const within = path.relative(HERE, file).split(path.sep).join("/");
  const known =
    PAGE.includes(within) || PACKAGES.some((one) => within.startsWith(`node_modules/${one}/`));
  return known ? file : null;
}

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return "";
  }
}

function isFile(file) {
  return statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
}

function settings() {
  const { values, positionals } = parseArgs({
    options: { port: { type: "string", default: "8000" } },
    allowPositionals: true,
  });
  if (positionals.length > 1) throw new Error(`Name one file. Received: ${positionals.join(" ")}`);
  const port = Number(values.port);
  if (!/^\d+$/.test(values.port) || port > 65535) {
    throw new Error(`--port must be a number up to 65535. Received: ${values.port}`);
  }
  // npm starts this in the package's folder, and keeps where the user was in INIT_CWD.
  const student = positionals[0] && path.resolve(process.env.INIT_CWD ?? "", positionals[0]);
  if (student && !isFile(student)) throw new Error(`There is no file ${student}`);
  if (!existsSync(path.join(HERE, "node_modules", PACKAGES[0]))) {
    throw new Error("The page's packages are not here. Run once: npm install");
  }
  return { student: student ?? null, port };
}

async function main() {
  try {
    const { student, port } = settings();
    const server = await serve(student, port);
    console.log(`http://127.0.0.1:${server.address().port}/ shows ${student ?? "the page"}`);
    console.log("Ctrl+C stops it.");
  } catch (error) {
    const taken = "Another program has this port. Choose another: npm start -- FILE --port=8001";
    console.error(error.code === "EADDRINUSE" ? taken : error.message);
    process.exitCode = 1;
  }
}

if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) main();
