"""One transformers model behind a pipe: the far side of the `hf` runtime.

usage: far_side.py and this file as one program, with FOLDER [--dtype float32]

Loads FOLDER with plain `from_pretrained` of the first of `AutoModelForSpeechSeq2Seq`, `AutoModelForSeq2SeqLM` and
`AutoModelForImageTextToText` that knows config.json's `model_type`, on the CPU (eager attention; the checkpoint's own dtype unless --dtype is given), then answers
requests from stdin on stdout until `quit` or the end of stdin. A request or reply is one line of JSON, then raw little-endian
values, row-major, as many as the line implies. A request lists its tensors as {"name":..,"dtype":"f32" or "i64","shape":[..]}
under `tensors`, and their values follow in that order:

    {"call":"versions"}                          -> {"ok":true,"transformers":..,"torch":..,"compressed_tensors":.. or null,
                                                     "dtype":..,"missing":[..],"unexpected":[..]}
    {"call":"encode","tensors":[..]}             -> {"ok":true}
        what the encoder takes, by its names
    {"call":"decode","tensors":[..]}             -> {"ok":true,"vocab":V}
        i64 decoder_input_ids[B,n]                   f32 logits[B,n,V]
    {"call":"quit"}                              -> {"ok":true}, then exit 0

`encode` starts a sequence with an empty cache; each `decode` continues it with n more tokens, so the whole pass is one
`decode` and a greedy loop is many with n = 1. An `attention_mask` of `encode` also masks cross-attention. A call that fails answers
{"ok":false,"error":".."} without values, with "lacks":"torch" when that package is not installed. A checkpoint that did not load answers so to every call but `quit`; one that loaded with
tensors missing, unexpected or of another shape answers `versions` only, since transformers fills such gaps at random.
"""
import argparse
import json
import math
import os
import sys

VALUE_BYTES = {"f32": 4, "i64": 8}
# More than the receptive field of one frame in any front end on raw audio (895 in Moonshine's).
SAMPLES = 16000


def main():
    requests, replies = answering()

    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"])
    args = parser.parse_args()

    session, broken = None, None
    try:
        session = Session(args.folder, args.dtype)
    except NotInstalled as e:
        broken = e
    except Exception as e:
        broken = Refused(f"{args.folder}: {type(e).__name__}: {e}")

    while line := requests.readline():
        logits = b""
        try:
            request = json.loads(line)
            values = read_values(request, requests)
            if request.get("call") == "quit":
                head = {"ok": True}
            elif session is None:
                raise broken
            else:
                head, logits = session.answer(request, values)
        except EOFError:
            return 1
        except NotInstalled as e:
            head = {"ok": False, "error": str(e), "lacks": e.package}
        except Refused as e:
            head = {"ok": False, "error": str(e)}
        except Exception as e:
            head = {"ok": False, "error": f"{type(e).__name__}: {e}"}
        replies.write(json.dumps(head).encode() + b"\n" + logits)
        replies.flush()
        if head["ok"] and request["call"] == "quit":
            return 0
    return 0


def read_values(request, stream):
    """The bytes of each tensor that `request` lists, by name; read even if the call is then refused, so that the next line is
    a request."""
    values = {}
    for tensor in request.get("tensors", ()):
        count = math.prod(tensor["shape"]) * VALUE_BYTES[tensor["dtype"]]
        values[tensor["name"]] = stream.read(count)
        if len(values[tensor["name"]]) < count:
            raise EOFError
    return values


class Session:
    def __init__(self, folder, dtype):
        torch, transformers = installed("torch"), installed("transformers")
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            quantized = json.load(file).get("quantization_config") or {}
        if quantized.get("quant_method") == "compressed-tensors":
            installed("compressed_tensors")

        transformers.utils.logging.disable_progress_bar()
        self.torch, self.transformers = torch, transformers
        # Else a checkpoint with code of its own has transformers ask on stdin whether to run it.
        asked = {"trust_remote_code": False, **({"dtype": getattr(torch, dtype)} if dtype else {})}
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        autos = (
            (transformers.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING, transformers.AutoModelForSpeechSeq2Seq),
            (transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, transformers.AutoModelForSeq2SeqLM),
            (transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, transformers.AutoModelForImageTextToText),
        )
        # One that none knows fails in the words of the second.
        auto = next((auto for known, auto in autos if type(config) in known), transformers.AutoModelForSeq2SeqLM)
        self.model, info = auto.from_pretrained(folder, attn_implementation="eager", output_loading_info=True, **asked)
        self.model.eval()
        # compressed-tensors unpacks W8A8 in a hook on the whole model; the encoder alone would run on the codes.
        if hasattr(self.model, "ct_decompress_hook"):
            one = torch.ones((1, 1), dtype=torch.int64)
            with torch.no_grad():
                self.model(**self.any_source(), decoder_input_ids=one)
        self.missing = sorted(map(str, info["missing_keys"]))
        self.unexpected = sorted(map(str, [*info["unexpected_keys"], *info.get("mismatched_keys", ())]))
        self.encoded = self.mask = self.past = None

    def any_source(self):
        config, name = self.model.config, self.model.main_input_name
        if name == "input_features":
            return {name: self.torch.zeros((1, config.num_mel_bins, 2 * config.max_source_positions))}
        if name == "input_values":
            return {name: self.torch.zeros((1, SAMPLES))}
        if name == "pixel_values":
            size = config.encoder.image_size
            size = size if isinstance(size, (list, tuple)) else (size, size)
            return {name: self.torch.zeros((1, config.encoder.num_channels, *size))}
        return {name: self.torch.ones((1, 1), dtype=self.torch.int64)}

    def answer(self, request, values):
        call = request.get("call")
        if call == "versions":
            return self.versions(), b""
        if self.missing or self.unexpected:
            raise Refused(f"checkpoint and model differ: missing {self.missing}, unexpected or of another shape {self.unexpected}")
        if call == "encode":
            return self.encode(self.tensors(request, values))
        if call == "decode":
            return self.decode(**self.tensors(request, values))
        raise Refused(f"call: expected versions, encode, decode or quit, found {call!r}")

    def tensors(self, request, values):
        dtypes = {"f32": self.torch.float32, "i64": self.torch.int64}
        return {
            t["name"]: self.torch.frombuffer(bytearray(values[t["name"]]), dtype=dtypes[t["dtype"]]).view(t["shape"])
            for t in request["tensors"]
        }

    def versions(self):
        try:
            compressed_tensors = installed("compressed_tensors").__version__
        except NotInstalled:
            compressed_tensors = None
        return {
            "ok": True, "transformers": self.transformers.__version__, "torch": self.torch.__version__,
            "compressed_tensors": compressed_tensors, "dtype": str(self.model.dtype).removeprefix("torch."),
            "missing": self.missing, "unexpected": self.unexpected,
        }  # fmt: skip

    def encode(self, source):
        floats = {name: t.to(self.model.dtype) if t.is_floating_point() else t for name, t in source.items()}
        with self.torch.inference_mode():
            if {"input_ids", "pixel_values"} <= source.keys():
                floats, self.encoded = self.seen_and_read(floats)
            else:
                self.encoded = self.model.get_encoder()(**floats)
        self.mask, self.past = floats.get("attention_mask"), None
        return {"ok": True}, b""

    def seen_and_read(self, source):
        """An image and what is asked of it; a stand-in for each of the image's features goes before the tokens."""
        ids, mask = source["input_ids"], source["attention_mask"]
        features = self.model.get_image_features(source["pixel_values"])
        features = getattr(features, "pooler_output", features)
        image = ids.new_full(features.shape[:2], self.model.config.image_token_id)
        ids, mask = self.torch.cat([image, ids], 1), self.torch.cat([self.torch.ones_like(image), mask], 1)
        source = source | dict(input_ids=ids, attention_mask=mask)
        out = self.model(**source, decoder_input_ids=self.torch.zeros((len(ids), 1), dtype=self.torch.int64))
        hidden = self.transformers.modeling_outputs.BaseModelOutput(out.encoder_last_hidden_state)
        return source, hidden

    def decode(self, decoder_input_ids):
        if self.encoded is None:
            raise Refused("decode before encode")
        rows = len(self.encoded.last_hidden_state)
        if len(decoder_input_ids) != rows:
            raise Refused(f"batch: expected {rows} as encoded, found {len(decoder_input_ids)}")
        with self.torch.inference_mode():
            out = self.model(
                encoder_outputs=self.encoded, attention_mask=self.mask, decoder_input_ids=decoder_input_ids,
                past_key_values=self.past, use_cache=True,
            )  # fmt: skip
        self.past = out.past_key_values
        logits = out.logits.float().contiguous()
        return {"ok": True, "vocab": logits.shape[-1]}, logits.numpy().tobytes()


if __name__ == "__main__":
    sys.exit(main())
