"""Reads a GGUF file with the gguf package.

usage: python gguf_open.py FILE.gguf [--sums]

Prints one line of JSON: {"metadata": {key: [types, value]}, "tensors": [[name, type, shape, offset_bytes, size_bytes]], "versions"}.
`types` are the GGUF value types from outside in (["ARRAY", "STRING"]); arrays of more than 8 values are given as
{"len": n, "first": [8 values]}; `shape` is in GGUF's order, the fastest dimension first. With --sums each tensor also
has the f64 sum of its dequantized values.
"""
import json
import sys
from importlib.metadata import version

import gguf
import numpy as np


def value(field):
    if field.types[0] != gguf.GGUFValueType.ARRAY:
        return field.contents()
    first = [field.contents(i) for i in range(min(8, len(field.data)))]
    return first if len(field.data) <= 8 else {"len": len(field.data), "first": first}


def main(path, *options):
    reader = gguf.GGUFReader(path)
    tensors = []
    for t in reader.tensors:
        row = [t.name, t.tensor_type.name, [int(n) for n in t.shape], int(t.data_offset), int(t.n_bytes)]
        if "--sums" in options:
            row.append(float(np.sum(gguf.dequantize(t.data, t.tensor_type), dtype=np.float64)))
        tensors.append(row)
    # The reader adds GGUF.version and the two counts under names of its own.
    metadata = {k: [[t.name for t in f.types], value(f)] for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    print(json.dumps({"metadata": metadata, "tensors": tensors, "versions": {"gguf": version("gguf")}}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
