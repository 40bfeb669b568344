"""What Qualcomm's HTP simulator makes of graphs that nobody else opens: wrong ones among them.

usage: python simulate.py FLOAT FILE...

Prints {FILE: found}: {"refused": why}, or {"db": .., "cpu_db": .., "same_db": ..}: signal to noise of the first output in the
simulator and in onnxruntime's CPU against FLOAT in onnxruntime, and of the simulator against the CPU with the same file. Ids and
caches are drawn; fallback to the CPU is forbidden, soc_model is 60. For a file whose first output FLOAT lacks, `same_db` alone.
"""
import json
import os
import sys

import numpy as np
import onnxruntime as ort
import onnxruntime_qnn as qnn

TYPES = {"int32": np.int32, "int64": np.int64, "bool": np.bool_, "float": np.float32, "uint8": np.uint8, "uint16": np.uint16}


def main():
    # The provider greets on stdout.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    ort.register_execution_provider_library("QNNExecutionProvider", qnn.get_library_path())
    reference, *files = sys.argv[1:]
    float_outputs = outputs(session(reference, False))
    json.dump({file: judged(file, float_outputs) for file in files}, answers)


def session(file, simulated):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if simulated:
        device = next(d for d in ort.get_ep_devices() if d.ep_name == "QNNExecutionProvider")
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_provider_for_devices([device], {"backend_path": qnn.get_qnn_htp_path(), "soc_model": "60"})
    else:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(file, options)


def outputs(opened):
    """Float outputs in order, of ids below 20, a mask of ones but its last, and codes in the middle."""
    drawn = np.random.default_rng(7)
    feeds = {}
    for port in opened.get_inputs():
        kind = TYPES[port.type.removeprefix("tensor(").removesuffix(")")]
        if port.name == "attention_mask":
            values = np.ones(port.shape)
            values[..., -1] = 0
        elif port.name == "position":
            values = np.full(port.shape, 2)
        elif np.issubdtype(kind, np.unsignedinteger):
            top = np.iinfo(kind).max
            values = drawn.integers(top // 4, top - top // 4, port.shape)
        elif np.issubdtype(kind, np.integer):
            values = drawn.integers(1, 20, port.shape)
        else:
            values = drawn.standard_normal(port.shape)
        feeds[port.name] = np.asarray(values).astype(kind)
    return opened.run(None, feeds)


def judged(file, float_outputs):
    try:
        found = outputs(session(file, True))
    except Exception as e:
        return {"refused": str(e)}
    same = outputs(session(file, False))
    result = {"same_db": worst(found, same)}
    if found[0].shape == float_outputs[0].shape:
        result |= {"db": decibels(found[0], float_outputs[0]), "cpu_db": decibels(same[0], float_outputs[0])}
    return result


def worst(found, expected):
    return min(decibels(a, b) for a, b in zip(found, expected))


def decibels(found, expected):
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    noise = np.sum((found - expected) ** 2)
    if not np.isfinite(noise):
        return -99.0
    return float(10 * np.log10(max(np.sum(expected**2), 1e-30) / max(noise, 1e-30)))


if __name__ == "__main__":
    main()
