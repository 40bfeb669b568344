// Runs artifacts of `onnx: { for: transformers.js }` on this page, in WebAssembly; nothing leaves the machine.
//
// The page's address says which: ?word=FOLDER of a model that answers texts, &clip=FOLDER of a Whisper, each as a path of this
// server; &modules=FOLDER with @huggingface/transformers and onnxruntime-web, otherwise those of tools/setup.sh.
import { listener, reader } from "./models.mjs";

const SAMPLES_PER_SECOND = 16_000; // what Whisper hears

/** transformers.js, told to take everything from this server. */
async function local(modules) {
  const library = await import(new URL("@huggingface/transformers/dist/transformers.min.js", modules));
  const { env } = library;
  Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: "/" });
  const runtime = (end) => new URL(`onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.${end}`, modules).href;
  env.backends.onnx.wasm.wasmPaths = { mjs: runtime("mjs"), wasm: runtime("wasm") };
  return library;
}

/** The samples of a recording, as the mean of its channels. */
async function samplesOf(file) {
  const context = new OfflineAudioContext(1, 1, SAMPLES_PER_SECOND);
  const audio = await context.decodeAudioData(await file.arrayBuffer());
  const channels = Array.from({ length: audio.numberOfChannels }, (_, i) => audio.getChannelData(i));
  return Float32Array.from(channels[0], (_, at) => channels.reduce((sum, one) => sum + one[at], 0) / channels.length);
}

/** Shows an answer in its section. */
function show(section, { text, perSecond }) {
  section.querySelector(".text").textContent = text || "(nothing)";
  section.querySelector(".speed").textContent = perSecond ? `${perSecond.toFixed(0)} tokens per second` : "";
}

/** Turns a section on, whose answers are made of its form's fields. */
function ready(id, event, answer) {
  const section = document.getElementById(id);
  section.hidden = false;
  section.querySelector("form").addEventListener(event, async (given) => {
    given.preventDefault();
    show(section, { text: "…" });
    show(section, await answer(given.currentTarget.elements).catch((error) => ({ text: String(error.message ?? error) })));
  });
}

const state = document.getElementById("state");
const asked = new URLSearchParams(location.search);
const [word, clip] = [asked.get("word"), asked.get("clip")];
try {
  if (!word && !clip) throw new Error("Expected ?word=FOLDER or ?clip=FOLDER in the address: artifacts, as paths of this server.");
  const library = await local(new URL(asked.get("modules") ?? "/.node/node_modules/", location.href));
  if (word) {
    const read = await reader(library, word);
    ready("word", "submit", ({ word: { value } }) => read(value));
  }
  if (clip) {
    const hear = await listener(library, clip);
    ready("clip", "change", async ({ clip: { files } }) => hear(await samplesOf(files[0])));
  }
  state.textContent = "Ready.";
} catch (error) {
  state.textContent = String(error.message ?? error);
}
