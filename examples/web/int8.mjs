// Networks with int8 inputs or outputs. LiteRT.js 2.5.3 has no tensor of that type, though its
// runtime does: this goes one level below `loadAndCompile`, with bytes in and bytes out.

import { getGlobalLiteRt } from "@litertjs/core";

/** Loads a network of one input and one output; `run` takes and gives an Int8Array. */
export async function loadInt8(bytes) {
  const liteRt = getGlobalLiteRt();
  const wasm = liteRt.liteRtWasm;
  const environment = liteRt.getDefaultEnvironment();
  const address = wasm._malloc(bytes.length);
  wasm.HEAPU8.set(bytes, address);
  const model = wasm.loadModel(environment.liteRtEnvironment, address, bytes.length);
  const compiled = await wasm.compileModel(environment.liteRtEnvironment, model, {
    environment,
    accelerator: "wasm",
    cpuOptions: { numThreads: 1 },
    gpuOptions: {},
    webNNOptions: {},
  });
  return {
    async run(values) {
      const input = inputBuffer(wasm, environment, model, values);
      const [output] = await compiled.run(0, [input]);
      input.delete();
      const start = output.lock(wasm.LiteRtTensorBufferLockMode.READ);
      const found = new Int8Array(wasm.HEAPU8.slice(start, start + output.packedSize()).buffer);
      output.unlock();
      output.delete();
      return found;
    },
    delete() {
      compiled.delete();
      model.delete();
      wasm._free(address);
    },
  };
}

function inputBuffer(wasm, environment, model, values) {
  const type = model.getInputTensorType(0, 0);
  const buffer = wasm.LiteRtTensorBuffer.createManaged(
    environment.liteRtEnvironment,
    wasm.LiteRtTensorBufferType.HOST_MEMORY,
    type,
    type.bytes(),
  );
  type.delete();
  const start = buffer.lock(wasm.LiteRtTensorBufferLockMode.WRITE);
  wasm.HEAPU8.set(new Uint8Array(values.buffer), start);
  buffer.unlock();
  return buffer;
}
