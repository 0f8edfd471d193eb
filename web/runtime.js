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

async function createSession(file) {
  const bytes = new Uint8Array(await (await fetched(new URL(`./models/${file}`, import.meta.url))).arrayBuffer());
  return ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
}

/** A network, with a decoder for means of heatmaps where it has one. */
export class Network {
  /** @param exact whether it computes in 32 bits even where there is a file in 8. */
  static async load(facts, exact) {
    const network = new Network();
    network.size = facts.image_size;
    network.session = await createSession(exact ? facts.exact : facts.fast ?? facts.exact);
    try {
      network.decoder = facts.decoder ? await createSession(facts.decoder) : null;
    } catch (error) {
      await network.release();
      throw error;
    }
    return network;
  }

  /** Gives the memory back. */
  async release() {
    await this.session.release();
    await this.decoder?.release();
  }

  /** Squares of size * size * 3 bytes -> keypoints and confidence of the first, heatmaps of all. */
  async run(squares) {
    const bytes = new Uint8Array(squares.length * squares[0].length);
    squares.forEach((square, index) => bytes.set(square, index * square.length));
    const images = new ort.Tensor("uint8", bytes, [squares.length, this.size, this.size, 3]);
    const answer = await this.session.run({ images });
    const heatmaps = { values: answer.heatmaps.data, side: answer.heatmaps.dims[3] };
    return { ...points(answer), heatmaps };
  }

  /** Heatmaps of one square -> its keypoints and confidence. */
  async decode({ values, side }) {
    const heatmaps = new ort.Tensor("float32", values, [1, values.length / side / side, side, side]);
    return points(await this.decoder.run({ heatmaps }));
  }
}

function points({ keypoints, confidence }) {
  const count = confidence.dims[1];
  return {
    keypoints: Array.from({ length: count }, (_, index) => [keypoints.data[2 * index], keypoints.data[2 * index + 1]]),
    confidence: Array.from(confidence.data.subarray(0, count)),
  };
}
