"""Opens an ONNX folder with Optimum, through the merged decoder and through the pair, and generates.

usage: python optimum_open.py ONNX_DIR DATA.jsonl N

DATA.jsonl holds lines {"input": .., "target": ..}; the first N inputs are translated greedily in one padded batch.
Prints one line of JSON: {"merged": MODE, "pair": MODE, "tokenizer": "auto" or the reason, "versions": {..}}, where MODE is
{"texts": [..], "tokens": [[..]]} or {"error": ".."} when the folder lacks that form's file or Optimum refuses it. Exits 1 when
neither form generates. Optimum runs on transformers 4.57, whose AutoTokenizer fails on a tokenizer_config.json where
transformers 5 wrote `extra_special_tokens` as a list; then tokenizer.json is read directly and "tokenizer" says why.
"""
import itertools
import json
import sys
from importlib.metadata import version
from pathlib import Path

from optimum.onnxruntime import ORTModelForSeq2SeqLM
from transformers import AutoTokenizer, PreTrainedTokenizerFast


def open_tokenizer(folder):
    try:
        return AutoTokenizer.from_pretrained(folder), "auto"
    except Exception as e:
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(Path(folder) / "tokenizer.json"), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
        )
        return tokenizer, f"{type(e).__name__}: {e}"


def generate(folder, tokenizer, inputs, merged):
    try:
        model = ORTModelForSeq2SeqLM.from_pretrained(folder, use_merged=merged, use_cache=True, provider="CPUExecutionProvider")
        batch = tokenizer(inputs, padding=True, return_tensors="pt", return_token_type_ids=False)
        tokens = model.generate(input_ids=batch.input_ids, attention_mask=batch.attention_mask, num_beams=1, do_sample=False)
        return {"texts": tokenizer.batch_decode(tokens, skip_special_tokens=True), "tokens": tokens.tolist()}
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}


def main(folder, data, count):
    inputs = [json.loads(line)["input"] for line in itertools.islice(open(data), int(count))]
    tokenizer, opened = open_tokenizer(folder)
    modes = {form: generate(folder, tokenizer, inputs, form == "merged") for form in ("merged", "pair")}
    packages = ("optimum", "optimum-onnx", "transformers", "onnxruntime", "torch")
    print(json.dumps(modes | {"tokenizer": opened, "versions": {p: version(p) for p in packages}}))
    return 0 if any("texts" in m for m in modes.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
