// Opens an ONNX artifact of a fixture with transformers.js under Node, and generates from the recorded sources.
//
// usage: node fixture_open.mjs NODE_MODULES DIR EXPECTED.safetensors
//
// NODE_MODULES has @huggingface/transformers. EXPECTED holds what tests/fixtures/make.py recorded; its sources are fed as they
// are, without a tokenizer. Prints one line of JSON: {"greedy": [[ids]], "prompt_greedy": [[ids]] where text prompts are
// recorded, "version": ".."}. Nothing is fetched.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const MAX_NEW_TOKENS = 12; // as recorded
const SPEECH = ["whisper", "moonshine"];

const [modules, folder, expected] = process.argv.slice(2);
const library = path.resolve(modules, "@huggingface/transformers");
const { main, exports, version } = JSON.parse(fs.readFileSync(path.join(library, "package.json")));
const entry = exports?.node?.import?.default ?? exports?.node?.import ?? main;
const { AutoModelForSeq2SeqLM, AutoModelForSpeechSeq2Seq, Tensor, env } = await import(
  pathToFileURL(path.join(library, entry))
);

env.allowRemoteModels = false;

function read(file) {
  const bytes = fs.readFileSync(file);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const { __metadata__, ...tensors } = JSON.parse(bytes.subarray(8, start));
  const tensor = ({ dtype, shape, data_offsets: [from, to] }) => {
    // Copied, because a typed array begins at a multiple of its elements.
    const data = bytes.buffer.slice(bytes.byteOffset + start + from, bytes.byteOffset + start + to);
    return dtype === "I64" ? new Tensor("int64", new BigInt64Array(data), shape) : new Tensor("float32", new Float32Array(data), shape);
  };
  return Object.fromEntries(Object.entries(tensors).map(([name, entry]) => [name, tensor(entry)]));
}

const recorded = read(expected);
const { model_type } = JSON.parse(fs.readFileSync(path.join(folder, "config.json")));
const family = SPEECH.includes(model_type) ? AutoModelForSpeechSeq2Seq : AutoModelForSeq2SeqLM;
// An absolute path is no name on a hub, so it is taken for a path.
const model = await family.from_pretrained(path.resolve(folder), { dtype: "fp32", subfolder: "", local_files_only: true });

async function generate(inputs, attention_mask) {
  // Speech is one clip a call there.
  const batches = SPEECH.includes(model_type) ? inputs.dims[0] : 1;
  const rows = [];
  for (let i = 0; i < batches; i++) {
    const part = (x) => (batches > 1 ? x.slice([i, i + 1]) : x);
    const mask = attention_mask ? { attention_mask: part(attention_mask) } : {};
    const settings = { do_sample: false, num_beams: 1, max_new_tokens: MAX_NEW_TOKENS };
    const tokens = await model.generate({ inputs: part(inputs), ...mask, ...settings });
    rows.push(...tokens.tolist().map((row) => row.map(Number)));
  }
  return rows;
}

const { input_ids, input_features, input_values, attention_mask, prompt_ids, prompt_mask } = recorded;
const said = { greedy: await generate(input_ids ?? input_features ?? input_values, attention_mask) };
if (prompt_ids) said.prompt_greedy = await generate(prompt_ids, prompt_mask);
console.log(JSON.stringify({ ...said, version }));
