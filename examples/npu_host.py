"""A host for an NPU artifact: npu.json, an encoder, a decoder step and their weights; greedy decoding.

usage: python examples/npu_host.py ARTIFACT TEXT [SOC_MODEL]

Needs onnxruntime, numpy and tokenizers; with a SOC_MODEL also onnxruntime-qnn, and runs on Qualcomm's HTP or its simulator.
"""
import json
import pathlib
import sys

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

folder, text, soc_model = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
host, config = (json.loads((folder / name).read_text()) for name in ["npu.json", "generation_config.json"])
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
options = ort.SessionOptions()
if soc_model:
    import onnxruntime_qnn as qnn
    ort.register_execution_provider_library("QNNExecutionProvider", qnn.get_library_path())
    device = next(d for d in ort.get_ep_devices() if d.ep_name == "QNNExecutionProvider")
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_provider_for_devices([device], {"backend_path": qnn.get_qnn_htp_path(), "soc_model": soc_model[0]})


def opened(graph):
    """A function from values by port to values by port; what the graph does not take is left out."""
    session = ort.InferenceSession(folder / graph["file"], options)
    names = [port["name"] for port in graph["outputs"]]
    def run(values):
        made = session.run(names, {port["name"]: values[port["port"]] for port in graph["inputs"]})
        return {port["port"]: value for port, value in zip(graph["outputs"], made)}
    return run


def zeros(port):
    kind, steps = (port["numbers"], {}) if isinstance(port["numbers"], str) else next(iter(port["numbers"].items()))
    return np.full(port["shape"], steps.get("zero", 0), kind)  # of a port in codes, the code of zero


ids = tokenizer.encode(text).ids
bucket = next(b for b in host["buckets"] if b["source"] >= len(ids))  # the shortest that holds the text
padding = bucket["source"] - len(ids)
values = {"input_ids": np.array([ids + [host["pad_token_id"]] * padding], np.int32)}
values["attention_mask"] = np.array([[1] * len(ids) + [0] * padding], np.int32)
values |= opened(bucket["encoder"])(values)  # cross.{i}.k and .v, which every step reads
values |= {port["port"]: zeros(port) for port in bucket["decoder"]["inputs"] if port["port"].startswith("past.")}

step, tokens = opened(bucket["decoder"]), [config["decoder_start_token_id"]]
for position in range(host["target"]):
    values |= {"decoder_input_ids": np.array([tokens[-1:]], np.int32), "position": np.array([position], np.int32)}
    made = step(values)
    tokens.append(int(made["logits"].argmax()))
    if tokens[-1] == config["eos_token_id"] or position + 1 == host["target"]:
        break
    for port in (port for port in made if port.startswith("present.")):  # to the token's position in the cache
        values[port.replace("present", "past")][:, :, position : position + 1] = made[port]
print(tokenizer.decode(tokens[1:]))
