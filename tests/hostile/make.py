"""Makes the pickles in this folder. Loading any of them with Python's pickle would create the file `executed`.

usage: python tests/hostile/make.py
"""
import os
import pickle
import zipfile
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent


class Runs:
    """An object whose pickle asks for a command to be run."""

    def __reduce__(self):
        return os.system, ("touch executed",)


# The whole file is the call.
(HERE / "runs_a_command.bin").write_bytes(pickle.dumps(Runs(), protocol=2))
# A checkpoint with one entry that is a call.
torch.save({"shared.weight": torch.zeros(2, 3), "lm_head.weight": Runs()}, HERE / "runs_a_command_among_tensors.bin")
# A tensor whose storage lies far outside the file.
torch.save({"shared.weight": torch.zeros(2, 3).as_strided((1 << 20, 1 << 10), (0, 0))}, HERE / "tensor_of_nothing.bin")
# 8 million values of a byte each, in an entry that is a thousandth as long.
with zipfile.ZipFile(HERE / "deflated.bin", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
    for name, content in [("a/data.pkl", b"\x80\x02(" + b"N" * (8 << 20) + b"t."), ("a/version", b"3\n")]:
        archive.writestr(zipfile.ZipInfo(name), content, compress_type=zipfile.ZIP_DEFLATED, compresslevel=9)
# The same beside weights that are in a dictionary of their own.
beside = {"model_state_dict": {"transformer.wte.weight": torch.zeros(2, 3)}, "epoch": 3, "optimizer": Runs()}
torch.save(beside, HERE / "runs_a_command_beside_weights.pt")
