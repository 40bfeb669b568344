"""Graphs of fixed shapes in one engine behind a pipe: the far side of the runtimes `openvino` and `rknn-simulator`.

usage: far_side.py and this file as one program, with ENGINE [--threads N]      ENGINE: openvino or rknn

Answers requests from stdin on stdout until the end of stdin. A request or reply is one line of JSON, then raw little-endian
values, row-major: those of the tensors that the line lists as {"name":..,"dtype":"int32","shape":[..]} under `tensors`, in
that order. Types are named as NumPy names them.

    {"call":"versions"}                                     -> {"ok":true,"version":..}
    {"call":"open","file":..}                               -> {"ok":true,"graph":0,"inputs":[..],"outputs":[..],
                                                                "placed":[..],"words":0}
        ports as tensors are listed, a length that is not fixed as null; of engines that tell, where each operator runs, as
        {"operator":"Gather","target":"CPU","name":"embed/Gather"}; roundings of activations to 16 bits that the file asks for
    {"call":"run","graph":0,"outputs":[..],"tensors":[..]}  -> {"ok":true,"tensors":[..]}
        outputs by name; the reply's tensors are in that order
    {"call":"without_words","graph":0,"tensors":[..]}       -> {"ok":true,"equal":true}
        whether the graph gives the same bits when its roundings to 16 bits are taken out before it is compiled

A call that fails answers {"ok":false,"error":".."} without values. An engine that is not installed answers so to every call, with
its package under "lacks".
RKNN leaves files in the folder that it is started in.
"""
import argparse
import contextlib
import json
import math
import os
import re
import sys

# Lines of an engine's log that an error shows.
LAST_LINES = 12
# Of the simulator's table: ID, OpType, DataType, Target, InputShape, OutputShape, cycles, traffic, FullName.
OPERATOR = re.compile(r"D RKNN: \[[\d:.]+\] +\d+ +(\S+) +\S+ +(CPU|NPU|GPU) +\S.* (\S+) *$")
TABLE = "Network Layer Information Table"
# Neither of them computes.
PORTS = {"InputOperator", "OutputOperator"}
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def main():
    requests, replies = answering()

    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=["openvino", "rknn"])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    session, broken = None, None
    try:
        engine = {"openvino": OpenVino, "rknn": Rknn}[args.engine](args.threads)
        import numpy

        session = Session(engine, numpy)
    except NotInstalled as e:
        broken = e
    except Exception as e:
        broken = Refused(f"{type(e).__name__}: {e}")

    while line := requests.readline():
        values = []
        try:
            request = json.loads(line)
            tensors = read_tensors(request, requests)
            if session is None:
                raise broken
            head, values = session.answer(request, tensors)
            head["ok"] = True
        except EOFError:
            return 1
        except NotInstalled as e:
            head, values = {"ok": False, "error": str(e), "lacks": e.package}, []
        except Refused as e:
            head, values = {"ok": False, "error": str(e)}, []
        except Exception as e:
            head, values = {"ok": False, "error": f"{type(e).__name__}: {e}"}, []
        replies.write(json.dumps(head).encode() + b"\n" + b"".join(values))
        replies.flush()
    return 0


WIDTH_BYTES = {"int32": 4, "float32": 4, "uint8": 1, "uint16": 2, "int16": 2}


def read_tensors(request, stream):
    """Type, shape and bytes of each tensor that `request` lists, by name; read even if the call is then refused, so that the
    next line is a request."""
    tensors = {}
    for tensor in request.get("tensors", ()):
        count = math.prod(tensor["shape"]) * WIDTH_BYTES[tensor["dtype"]]
        data = stream.read(count)
        if len(data) < count:
            raise EOFError
        tensors[tensor["name"]] = tensor["dtype"], tensor["shape"], data
    return tensors


class Session:
    def __init__(self, engine, numpy):
        self.engine, self.numpy, self.graphs = engine, numpy, []

    def answer(self, request, tensors):
        call = request.get("call")
        if call == "versions":
            return {"version": self.engine.version}, []
        if call == "open":
            graph = self.engine.open(request["file"])
            self.graphs.append(graph)
            ports = {"inputs": listed(graph.inputs), "outputs": listed(graph.outputs)}
            return {"graph": len(self.graphs) - 1, **ports, "placed": graph.placed, "words": graph.words}, []
        arrays = {
            name: self.numpy.frombuffer(data, dtype).reshape(shape) for name, (dtype, shape, data) in tensors.items()
        }
        if call == "without_words":
            return {"equal": self.graphs[request["graph"]].same_without_words(arrays)}, []
        if call == "run":
            found = self.graphs[request["graph"]].run(arrays)
            out = [(name, self.numpy.ascontiguousarray(found[name])) for name in request["outputs"]]
            return {"tensors": listed([(name, str(a.dtype), a.shape) for name, a in out])}, [a.tobytes() for _, a in out]
        raise Refused(f"call: expected versions, open, run or without_words, found {call!r}")


def listed(ports):
    return [{"name": name, "dtype": dtype, "shape": list(shape)} for name, dtype, shape in ports]


class OpenVino:
    """The CPU plugin, in floats of 32 bits."""

    def __init__(self, threads):
        # It would write an identity into the user's home on import.
        sys.modules["openvino_telemetry"] = None
        openvino = installed("openvino")
        # A release, then what it was built from.
        self.core, self.version = openvino.Core(), openvino.__version__.split("-")[0]
        self.config = {
            "INFERENCE_PRECISION_HINT": "f32",
            # It would round the inputs of layers with int8 weights, which no file asks for.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            # 2026.4.1 ends the process when it runs some decoders on one thread.
            "INFERENCE_NUM_THREADS": max(threads, 2),
            "NUM_STREAMS": 1,
        }

    def open(self, file):
        return OpenVinoGraph(self, file)

    def compile(self, model):
        return self.core.compile_model(model, "CPU", self.config)


class OpenVinoGraph:
    placed = ()

    def __init__(self, engine, file):
        self.engine, self.file = engine, file
        # Before it is compiled: the plugin may add names to what it returns.
        model = engine.core.read_model(file)
        self.inputs, self.outputs = map(self.ports, [model.inputs, model.outputs])
        self.words = len(words(model))
        self.compiled = engine.compile(model)

    @staticmethod
    def ports(ports):
        shape = lambda port: [d.get_length() if d.is_static else None for d in port.partial_shape]
        return [(port.any_name, port.element_type.to_dtype().name, shape(port)) for port in ports]

    def run(self, arrays):
        return self.outputs_of(self.compiled, arrays)

    def outputs_of(self, compiled, arrays):
        found = compiled(arrays)
        return {name: found[port] for (name, _, _), port in zip(self.outputs, compiled.outputs, strict=True)}

    def same_without_words(self, arrays):
        model = self.engine.core.read_model(self.file)
        for rounding, end in words(model):
            end.replace(rounding.input_value(0))
        found = self.outputs_of(self.engine.compile(model), arrays)
        return all(array.tobytes() == found[name].tobytes() for name, array in self.run(arrays).items())


def words(model):
    """Each rounding to 16 bits that ends in floats again, and the output that has them."""
    found = []
    for rounding in model.get_ops():
        if rounding.get_type_name() != "FakeQuantize" or rounding.get_attributes()["levels"] != 1 << 16:
            continue
        # QuantizeLinear is read as FakeQuantize and Convert, DequantizeLinear as Convert, Subtract and Multiply.
        end, step = rounding.output(0), ""
        while step != "Multiply" and len(takers := list(end.get_target_inputs())) == 1:
            node = takers[0].get_node()
            step = node.get_type_name()
            if step not in ("Convert", "Subtract", "Multiply"):
                break
            end = node.output(0)
        if step == "Multiply":
            found.append((rounding, end))
    return found


class Rknn:
    """Rockchip's simulator of RK3588, in floats of 16 bits."""

    def __init__(self, _):
        installed("rknn")
        from importlib.metadata import version

        from rknn.api import RKNN

        self.rknn, self.version = RKNN, version("rknn-toolkit2")

    def open(self, file):
        rknn = self.rknn(verbose=True)
        with heard() as log:
            step = "config"
            try:
                status = rknn.config(target_platform="rk3588", optimization_level=2)
                for step, call in [
                    ("load_onnx", lambda: rknn.load_onnx(model=file)),
                    ("build", lambda: rknn.build(do_quantization=False)),
                    ("init_runtime", lambda: rknn.init_runtime(target=None)),
                ]:
                    if status:
                        break
                    status = call()
            except Exception as e:
                status = f"{type(e).__name__}: {e}"
        text = COLOUR.sub("", log())
        if status:
            said = [line for line in text.splitlines() if line.startswith(("E ", "W "))] or text.splitlines()
            raise Refused("\n  ".join([f"{step}: {status}", *said[-LAST_LINES:]]))
        return RknnGraph(rknn, file, placements(text))


@contextlib.contextmanager
def heard():
    """What is printed meanwhile, from Python or from C, in place of stderr."""
    with open("heard.log", "w+b") as file:
        kept = os.dup(1), os.dup(2)
        sys.stdout.flush(), sys.stderr.flush()
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
        said = []
        try:
            yield lambda: said[0].decode(errors="replace")
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            for fd, saved in zip((1, 2), kept):
                os.dup2(saved, fd)
                os.close(saved)
            file.seek(0)
            said.append(file.read())


def placements(text):
    """Operators of the last table in a log."""
    found = [OPERATOR.match(line) for line in text[text.rfind(TABLE) :].splitlines()]
    rows = [m.groups() for m in found if m]
    return [{"operator": o, "target": t, "name": n.split(":", 1)[-1]} for o, t, n in rows if o not in PORTS]


class RknnGraph:
    words = 0

    def __init__(self, rknn, file, placed):
        import onnx

        self.rknn, self.placed = rknn, placed
        graph = onnx.load(file, load_external_data=False).graph
        self.inputs, self.outputs = map(self.ports, [graph.input, graph.output])

    @staticmethod
    def ports(ports):
        import onnx

        def port(p):
            ty = p.type.tensor_type
            shape = [d.dim_value if d.HasField("dim_value") else None for d in ty.shape.dim]
            return p.name, onnx.helper.tensor_dtype_to_np_dtype(ty.elem_type).name, shape

        return [port(p) for p in ports]

    def run(self, arrays):
        given = [arrays[name] for name, _, _ in self.inputs]
        # As they lie in ONNX; by default four axes would be taken for images with channels last.
        found = self.rknn.inference(inputs=given, data_format=["nchw"] * len(given))
        if found is None:
            raise Refused("inference: no outputs")
        return {name: array for (name, _, _), array in zip(self.outputs, found, strict=True)}


if __name__ == "__main__":
    sys.exit(main())
