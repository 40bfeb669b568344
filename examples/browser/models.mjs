// What the page does with transformers.js, which is given as `library`; it runs under Node as well.

/** Longer than any word's answer. */
const MAX_NEW_TOKENS = 64;

/** Generates, and says how fast: the tokens behind the first, by the time behind it. */
async function timed(model, inputs) {
  const times = [];
  const streamer = { put: () => times.push(performance.now()), end: () => {} };
  const tokens = await model.generate({ ...inputs, streamer });
  // What an answer starts with is put before its first token.
  const [, first, ...later] = times;
  const perSecond = later.length ? (1000 * later.length) / (later.at(-1) - first) : undefined;
  return { tokens: tokens.tolist()[0].map(Number), perSecond };
}

/** Loads a model that answers texts. Returns what reads one: {text, tokens, perSecond}. */
export async function reader({ AutoModelForSeq2SeqLM, AutoTokenizer }, folder) {
  const tokenizer = await AutoTokenizer.from_pretrained(folder);
  const model = await AutoModelForSeq2SeqLM.from_pretrained(folder);
  return async (given) => {
    const { tokens, perSecond } = await timed(model, { ...tokenizer(given), max_new_tokens: MAX_NEW_TOKENS });
    return { text: tokenizer.decode(tokens, { skip_special_tokens: true }), tokens, perSecond };
  };
}

/** Loads a Whisper. Returns what hears samples of one channel, 16000 a second: {text, tokens, perSecond}. */
export async function listener({ AutoModelForSpeechSeq2Seq, AutoProcessor }, folder) {
  const processor = await AutoProcessor.from_pretrained(folder);
  const model = await AutoModelForSpeechSeq2Seq.from_pretrained(folder);
  return async (samples) => {
    const { tokens, perSecond } = await timed(model, await processor(samples));
    return { text: processor.tokenizer.decode(tokens, { skip_special_tokens: true }).trim(), tokens, perSecond };
  };
}
