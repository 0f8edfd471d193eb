// The networks, run by ONNX Runtime on the processor: one thread, or several where the page is isolated.
//
// Not on the graphics card. ONNX Runtime's build with WebGPU has 27 MB where this one has 14, it does not compute in
// 8 bits, and where it was tried, on Chromium's own stand-in for a graphics card, one search had not ended after three
// minutes. On the processor, one look of this small network is quick enough for a camera.

import * as ort from "./ort/ort.wasm.bundle.min.mjs";

import { fetched } from "./fetched.js";

ort.env.wasm.wasmPaths = { wasm: new URL("./ort/ort-wasm-simd-threaded.wasm", import.meta.url).href };
ort.env.logLevel = "error";

/** Threads that may be used: a browser gives them only to pages whose server sends isolation headers. */
export function setThreads(wanted) {
  const most = self.crossOriginIsolated ? Math.max(1, Math.min(4, Math.floor(navigator.hardwareConcurrency / 2))) : 1;
  ort.env.wasm.numThreads = wanted > 0 && self.crossOriginIsolated ? wanted : most;
  return ort.env.wasm.numThreads;
}

/** A network: squares in, heatmaps out. */
export class Network {
  /** @param exact whether it computes in 32 bits even where there is a file in 8. */
  static async load(facts, exact) {
    const network = new Network();
    network.size = facts.image_size;
    const file = exact ? facts.exact : facts.fast ?? facts.exact;
    const bytes = new Uint8Array(await (await fetched(new URL(`./models/${file}`, import.meta.url))).arrayBuffer());
    const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
    network.session = await ort.InferenceSession.create(bytes, options);
    return network;
  }

  /** Gives the memory back. */
  async release() {
    await this.session.release();
  }

  /** Squares of size * size * 3 bytes -> {values, side}, the heatmaps of one square after the other. */
  async run(squares) {
    const bytes = new Uint8Array(squares.length * squares[0].length);
    squares.forEach((square, index) => bytes.set(square, index * square.length));
    const images = new ort.Tensor("uint8", bytes, [squares.length, this.size, this.size, 3]);
    const { heatmaps } = await this.session.run({ images });
    return { values: heatmaps.data, side: heatmaps.dims[3] };
  }
}
