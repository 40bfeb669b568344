"""Opens a safetensors folder with plain transformers (and compressed-tensors, when its config asks for it) and generates.

usage: python hf_open.py SAFETENSORS_DIR DATA.jsonl N

DATA.jsonl holds lines {"input": .., "target": ..}; the first N inputs are translated greedily in one padded batch.
Prints one line of JSON: {"texts": [..], "tokens": [[..]], "dtype", "missing": [..], "unexpected": [..], "mismatched": [..], "versions": {..}}.
Exits 1 when a tensor is missing, unexpected or of another shape.
"""
import itertools
import json
import sys
from importlib.metadata import PackageNotFoundError, version

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer


def versions(*packages):
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def main(folder, data, count):
    torch.set_num_threads(1)
    inputs = [json.loads(line)["input"] for line in itertools.islice(open(data), int(count))]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, info = AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    model.eval()
    # compressed-tensors unpacks W8A8 in a hook on the whole model, and generate calls the encoder first.
    if hasattr(model, "ct_decompress_hook"):
        one = torch.ones((1, 1), dtype=torch.int64)
        with torch.no_grad():
            model(input_ids=one, decoder_input_ids=one)
    batch = tokenizer(inputs, padding=True, return_tensors="pt")
    tokens = model.generate(input_ids=batch.input_ids, attention_mask=batch.attention_mask, num_beams=1, do_sample=False)
    gaps = {k: sorted(map(str, info[f"{k}_keys"])) for k in ("missing", "unexpected", "mismatched")}
    print(json.dumps({
        "texts": tokenizer.batch_decode(tokens, skip_special_tokens=True), "tokens": tokens.tolist(),
        "dtype": str(model.dtype).removeprefix("torch."), **gaps,
        "versions": versions("transformers", "torch", "compressed-tensors"),
    }))  # fmt: skip
    return 1 if any(gaps.values()) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
