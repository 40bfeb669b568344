"""Checks and opens every ONNX file below a folder with the onnx package and onnxruntime.

usage: python ort_open.py DIR

Prints one line of JSON: {"files": {"encoder_model.onnx": {"inputs": [..], "outputs": [..], "opset": {..}, "ir_version"}}, "versions"},
each input and output being [name, type, shape] as onnxruntime sees it, with names for open dimensions; a file that fails
has {"error": ".."} instead. Exits 1 when one failed or there is none.
"""
import json
import sys
from pathlib import Path

import onnx
import onnxruntime


def look(path):
    try:
        # By path, so that external data is found and files over 2 GiB pass; full_check runs shape inference too.
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(str(path), load_external_data=False)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return {
            "inputs": [[v.name, v.type, v.shape] for v in session.get_inputs()],
            "outputs": [[v.name, v.type, v.shape] for v in session.get_outputs()],
            "opset": {o.domain or "ai.onnx": o.version for o in model.opset_import}, "ir_version": model.ir_version,
        }  # fmt: skip
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}


def main(folder):
    paths = sorted(Path(folder).rglob("*.onnx"))
    files = {str(p.relative_to(folder)): look(p) for p in paths}
    print(json.dumps({"files": files, "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}}))
    return 0 if files and not any("error" in f for f in files.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
