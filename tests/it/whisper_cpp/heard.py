"""What whisper.cpp computes: `heard.py FILE FEATURES MELS TOKEN …` prints the logits of each step as JSON.

FEATURES: f32[MELS, frames], as they lie in memory. The library is the one that pywhispercpp brings.
"""
import ctypes
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

file, features, mels, *tokens = sys.argv[1:]
# The package loads what the library needs.
import _pywhispercpp  # noqa: E402, F401

library = ctypes.CDLL(str(sorted(Path(importlib.util.find_spec("_pywhispercpp").origin).parent.glob("libwhisper.so*"))[0]))
context, floats = ctypes.c_void_p, ctypes.POINTER(ctypes.c_float)
class Parameters(ctypes.Structure):
    _fields_ = [
        ("use_gpu", ctypes.c_bool), ("flash_attn", ctypes.c_bool), ("gpu_device", ctypes.c_int), ("timestamps", ctypes.c_bool),
        ("preset", ctypes.c_int), ("top", ctypes.c_int), ("heads", ctypes.c_size_t * 2), ("memory", ctypes.c_size_t),
    ]  # fmt: skip


library.whisper_context_default_params.restype = Parameters
library.whisper_init_from_file_with_params.argtypes = [ctypes.c_char_p, Parameters]
library.whisper_init_from_file_with_params.restype = context
library.whisper_get_logits.restype = floats
library.whisper_get_logits.argtypes = [context]
library.whisper_n_vocab.argtypes = [context]
library.whisper_set_mel.argtypes = [context, floats, ctypes.c_int, ctypes.c_int]
library.whisper_encode.argtypes = [context, ctypes.c_int, ctypes.c_int]
library.whisper_decode.argtypes = [context, ctypes.POINTER(ctypes.c_int), ctypes.c_int, ctypes.c_int, ctypes.c_int]

parameters = library.whisper_context_default_params()
# With it on, the engine fills frames up to a multiple of 256 with zeros and looks at them.
parameters.flash_attn = False
model = library.whisper_init_from_file_with_params(file.encode(), parameters)
assert model, "it does not open the file"
mel = np.fromfile(features, dtype="<f4")
frames = len(mel) // int(mels)
assert library.whisper_set_mel(model, mel.ctypes.data_as(floats), frames, int(mels)) == 0
assert library.whisper_encode(model, 0, 2) == 0
steps = []
for past, token in enumerate(tokens):
    assert library.whisper_decode(model, ctypes.byref(ctypes.c_int(int(token))), 1, past, 2) == 0
    steps.append(np.ctypeslib.as_array(library.whisper_get_logits(model), (library.whisper_n_vocab(model),)).tolist())
print(json.dumps(steps))
