"""A host for an NPU artifact: npu.json, an encoder, a decoder step and their weights; greedy decoding.

usage: python examples/npu_host.py ARTIFACT TEXT [SOC_MODEL]

Needs onnxruntime, numpy and tokenizers. With a SOC_MODEL and onnxruntime-qnn it runs on Qualcomm's HTP (or its simulator),
else on the CPU.
"""
import json
import pathlib
import sys

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

folder, text = pathlib.Path(sys.argv[1]), sys.argv[2]
host = json.loads((folder / "npu.json").read_text())
config = json.loads((folder / "generation_config.json").read_text())
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))


def session(graph):
    options = ort.SessionOptions()
    if len(sys.argv) > 3:
        import onnxruntime_qnn as qnn
        if not any(d.ep_name == "QNNExecutionProvider" for d in ort.get_ep_devices()):
            ort.register_execution_provider_library("QNNExecutionProvider", qnn.get_library_path())
        device = next(d for d in ort.get_ep_devices() if d.ep_name == "QNNExecutionProvider")
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_provider_for_devices([device], {"backend_path": qnn.get_qnn_htp_path(), "soc_model": sys.argv[3]})
    return ort.InferenceSession(folder / graph["file"], options)


def run(engine, graph, values):
    """Values by port in, values by port out. What a graph does not take is left out."""
    feeds = {port["name"]: values[port["port"]] for port in graph["inputs"]}
    outputs = engine.run([port["name"] for port in graph["outputs"]], feeds)
    return {port["port"]: value for port, value in zip(graph["outputs"], outputs)}


def empty(port):
    """Zeros: of a port in codes, the code of zero."""
    numbers = port["numbers"]
    kind, steps = (numbers, {}) if isinstance(numbers, str) else next(iter(numbers.items()))
    return np.full(port["shape"], steps.get("zero", 0), kind)


ids = tokenizer.encode(text).ids
bucket = next(b for b in host["buckets"] if b["source"] >= len(ids))  # the shortest that holds the text
padding = bucket["source"] - len(ids)
values = {
    "input_ids": np.array([ids + [host["pad_token_id"]] * padding], np.int32),
    "attention_mask": np.array([[1] * len(ids) + [0] * padding], np.int32),
}
values |= run(session(bucket["encoder"]), bucket["encoder"], values)  # cross.{i}.k and .v, which every step reads
values |= {p["port"]: empty(p) for p in bucket["decoder"]["inputs"] if p["port"].startswith("past.")}

decoder, tokens = session(bucket["decoder"]), [config["decoder_start_token_id"]]
for position in range(host["target"]):
    step = {"decoder_input_ids": np.array([[tokens[-1]]], np.int32), "position": np.array([position], np.int32)}
    made = run(decoder, bucket["decoder"], values | step)
    tokens.append(int(made["logits"].argmax()))
    if tokens[-1] == config["eos_token_id"]:
        break
    for name, new in made.items():  # the new token's keys and values go to its position in the cache
        if name.startswith("present.") and position + 1 < host["target"]:
            values[name.replace("present", "past")][:, :, position : position + 1] = new
print(tokenizer.decode(tokens[1:]))
