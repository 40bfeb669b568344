// Opens ONNX artifacts with transformers.js in headless Chromium, on WebAssembly.
//
// usage: node web_open.mjs NODE_MODULES fixture DIR EXPECTED.safetensors     what fixture_open.mjs prints
//        node web_open.mjs NODE_MODULES page word=DIR clip=DIR GIVEN...       examples/browser, given words and .wav files
//
// Prints one line of JSON; of the page [{"given", "text", "speed"}]. A page that writes to the console, or asks for anything that
// this program does not serve, is {"error": "…"}. Nothing is fetched from elsewhere.
import { createReadStream, existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "./chromium.mjs";

const PATIENCE_MS = 300_000;
const TYPES = { ".html": "text/html", ".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm", ".json": "application/json" };

const [modules, what, ...given] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const isFixture = what === "fixture";
const options = isFixture ? [] : given.filter((one) => /^(word|clip)=/.test(one));
const inputs = given.slice(options.length);
const folders = isFixture ? { fixture: inputs[0] } : Object.fromEntries(options.map((one) => one.split("=")));
/** Folders by the first part of an address. */
const served = { ".node": resolve(modules, ".."), examples: resolve(here, "../../examples"), foreign: here, ...folders };

const faults = [];
const server = createServer((request, response) => {
  const [, first, ...rest] = decodeURIComponent(new URL(request.url, "http://page").pathname).split("/");
  const file = first === "recorded" ? inputs[1] : served[first] && join(served[first], ...rest);
  if (first === "") {
    // A page for modules, whose icon a browser does not look for.
    response.writeHead(200, { "content-type": "text/html" }).end('<!doctype html><link rel="icon" href="data:,">');
    return;
  }
  if (!file || !existsSync(file)) {
    response.writeHead(404).end(); // of a folder, what it may have
    return;
  }
  response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" });
  createReadStream(file).pipe(response);
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const origin = `http://127.0.0.1:${server.address().port}`;

const { page, run, listen, end } = await chromium(PATIENCE_MS);
let loaded = () => {};
listen(({ method, params }) => {
  if (method === "Page.loadEventFired") loaded();
  if (method === "Runtime.exceptionThrown") faults.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
  if (method === "Runtime.consoleAPICalled") faults.push(`console.${params.type}: ${params.args.map((one) => one.value ?? one.description).join(" ")}`);
  // A browser without a GPU warns of that.
  if (method === "Log.entryAdded" && params.entry.level === "error") faults.push(`log: ${params.entry.text} ${params.entry.url ?? ""}`);
  if (method === "Network.requestWillBeSent" && !/^(data|blob):/.test(params.request.url) && !params.request.url.startsWith(`${origin}/`)) {
    faults.push(`asks for ${params.request.url}`);
  }
});
const open = async (address) => {
  const event = new Promise((done) => { loaded = done; });
  await page("Page.navigate", { url: `${origin}/${address}` });
  await event;
};

/** Runs in a page: the fixture in transformers.js. */
const inPage = async (modelType) => {
  const at = (path) => new URL(path, location.origin).href;
  const library = await import(at("/.node/node_modules/@huggingface/transformers/dist/transformers.min.js"));
  const { generated } = await import(at("/foreign/generated.mjs"));
  const { env } = library;
  Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: "/" });
  const runtime = (end) => at(`/.node/node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.${end}`);
  env.backends.onnx.wasm.wasmPaths = { mjs: runtime("mjs"), wasm: runtime("wasm") };
  const recorded = await (await fetch("/recorded")).arrayBuffer();
  return { ...(await generated(library, "fixture", modelType, recorded, { device: "wasm" })), version: env.version };
};

/** Runs in the example: waits until it shows something else than that it works. Of an answer, its text and how fast it came. */
const shown = async (id) => {
  const text = () => (id ? document.querySelector(`#${id} .text`) : document.getElementById("state")).textContent;
  while (["", "…", "Loading…"].includes(text())) await new Promise((done) => setTimeout(done, 20));
  return id ? { text: text(), speed: document.querySelector(`#${id} .speed`).textContent } : text();
};

/** Gives the example words and recordings, one after another. */
async function answers() {
  const query = options.map((one) => `${one.split("=")[0]}=${one.split("=")[0]}`).join("&");
  await open(`examples/browser/index.html?${query}`);
  const state = await run(shown);
  if (state !== "Ready.") throw new Error(state);
  const found = [];
  for (const one of inputs) {
    const id = one.endsWith(".wav") ? "clip" : "word";
    if (id === "clip") {
      const { root } = await page("DOM.getDocument");
      const { nodeId } = await page("DOM.querySelector", { nodeId: root.nodeId, selector: "#clip input" });
      await page("DOM.setFileInputFiles", { files: [resolve(one)], nodeId });
    } else {
      await run((text) => {
        const form = document.querySelector("#word form");
        form.elements.word.value = text;
        form.requestSubmit();
      }, one);
    }
    found.push({ given: one, ...(await run(shown, id)) });
  }
  return found;
}

try {
  let found;
  if (isFixture) {
    const { model_type } = JSON.parse(readFileSync(join(inputs[0], "config.json")));
    await open("");
    found = await run(inPage, model_type);
  } else {
    found = await answers();
  }
  console.log(JSON.stringify(faults.length ? { error: faults.join("\n") } : found));
  end(0);
} catch (error) {
  console.log(JSON.stringify({ error: [error.stack, ...faults].join("\n") }));
  end(1);
}
