// What a model of transformers.js generates from the recorded sources of a fixture; in Node and on a page.

const MAX_NEW_TOKENS = 12; // as recorded
const SPEECH = ["whisper", "moonshine"];
const IMAGES = ["vision-encoder-decoder"];
const ASKED_IMAGES = ["florence2"];

/** The tensors of a safetensors file, given as an ArrayBuffer. */
function tensors({ Tensor }, buffer) {
  const start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
  const { __metadata__, ...entries } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)));
  const tensor = ({ dtype, shape, data_offsets: [from, to] }) => {
    // Copied, because a typed array begins at a multiple of its elements.
    const data = buffer.slice(start + from, start + to);
    return dtype === "I64" ? new Tensor("int64", new BigInt64Array(data), shape) : new Tensor("float32", new Float32Array(data), shape);
  };
  return Object.fromEntries(Object.entries(entries).map(([name, entry]) => [name, tensor(entry)]));
}

/**
 * Opens a folder as it is, with no options but the device, and feeds it what tests/fixtures/make.py recorded, without a tokenizer.
 *
 * Returns {"greedy": [[ids]], "prompt_greedy": [[ids]] where text prompts are recorded}.
 */
export async function generated(library, folder, modelType, recorded, options = {}) {
  const { AutoModelForImageTextToText, AutoModelForSeq2SeqLM, AutoModelForSpeechSeq2Seq, AutoModelForVision2Seq } = library;
  const isSpeech = SPEECH.includes(modelType);
  const isAsked = ASKED_IMAGES.includes(modelType);
  const ofImages = isAsked ? AutoModelForImageTextToText : AutoModelForVision2Seq;
  const ofText = isAsked || IMAGES.includes(modelType) ? ofImages : AutoModelForSeq2SeqLM;
  const model = await (isSpeech ? AutoModelForSpeechSeq2Seq : ofText).from_pretrained(folder, options);

  async function generate(inputs, attention_mask) {
    // Speech is one clip a call there.
    const batches = isSpeech ? inputs.dims[0] : 1;
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

  const { input_ids, input_features, input_values, pixel_values, attention_mask, prompt_ids, prompt_mask } = tensors(library, recorded);
  if (isAsked) {
    const settings = { do_sample: false, num_beams: 1, max_new_tokens: MAX_NEW_TOKENS };
    const tokens = await model.generate({ input_ids, attention_mask, pixel_values, ...settings });
    return { greedy: tokens.tolist().map((row) => row.map(Number)) };
  }
  const source = input_ids ?? input_features ?? input_values ?? pixel_values;
  const said = { greedy: await generate(source, attention_mask) };
  if (prompt_ids) said.prompt_greedy = await generate(prompt_ids, prompt_mask);
  return said;
}
