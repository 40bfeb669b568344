"""A host for an ONNX artifact: an encoder, a decoder step and its cache; greedy decoding.

usage: python examples/onnx_host.py ARTIFACT TEXT

Needs onnxruntime, numpy and tokenizers.
"""
import json
import pathlib
import sys

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

LONGEST = 64

folder, text = pathlib.Path(sys.argv[1]), sys.argv[2]
config = json.loads((folder / "generation_config.json").read_text())
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))


def opened(file):
    """A function from values by name to values by name; what the graph does not take is left out."""
    session = ort.InferenceSession(folder / file)
    names = [port.name for port in session.get_outputs()]
    return lambda values: dict(zip(names, session.run(names, {p.name: values[p.name] for p in session.get_inputs()})))


encode, first, later = (opened(f"{name}.onnx") for name in ["encoder_model", "decoder_model", "decoder_with_past_model"])
source = np.array([tokenizer.encode(text).ids], np.int64)
mask = np.ones_like(source)
hidden = encode({"input_ids": source, "attention_mask": mask})["last_hidden_state"]
values = {"encoder_hidden_states": hidden, "encoder_attention_mask": mask}

step, tokens = first, [config["decoder_start_token_id"]]
while len(tokens) <= LONGEST and (len(tokens) == 1 or tokens[-1] != config["eos_token_id"]):
    made = step(values | {"input_ids": np.array([tokens[-1:]], np.int64)})
    tokens.append(int(made["logits"][0, -1].argmax()))
    # Keys and values of the source come from the first step alone and stay.
    values |= {name.replace("present", "past_key_values"): value for name, value in made.items() if name != "logits"}
    step = later
print(tokenizer.decode(tokens[1:]))
