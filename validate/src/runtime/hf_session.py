"""One transformers model behind a pipe: the far side of the `hf` runtime.

usage: python hf_session.py FOLDER [--dtype float32]

Loads FOLDER with plain `AutoModelForSeq2SeqLM.from_pretrained` on the CPU (eager attention; the checkpoint's own dtype
unless --dtype is given), then answers requests from stdin on stdout until `quit` or the end of stdin. A request or reply
is one line of JSON, then raw little-endian values, row-major, as many as the line implies:

    {"call":"versions"}                          -> {"ok":true,"transformers":..,"torch":..,"compressed_tensors":.. or null,
                                                     "dtype":..,"missing":[..],"unexpected":[..]}
    {"call":"encode","batch":B,"length":S}       -> {"ok":true}
        i64 ids[B,S], i64 mask[B,S]
    {"call":"decode","batch":B,"length":n}       -> {"ok":true,"vocab":V}
        i64 ids[B,n]                                 f32 logits[B,n,V]
    {"call":"quit"}                              -> {"ok":true}, then exit 0

`encode` starts a sequence with an empty cache; each `decode` continues it with n more tokens, so the whole pass is one
`decode` and a greedy loop is many with n = 1. The mask of `encode` also masks cross-attention. A call that fails answers
{"ok":false,"error":".."} without values. A checkpoint that did not load answers so to every call but `quit`; one that loaded with
tensors missing, unexpected or of another shape answers `versions` only, since transformers fills such gaps at random.
"""
import argparse
import json
import os
import sys


def main():
    # Frames go to the real stdout; whatever a library prints, from Python or from C, goes to stderr.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer

    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"])
    args = parser.parse_args()

    session, broken = None, None
    try:
        session = Session(args.folder, args.dtype)
    except Exception as e:
        broken = f"{args.folder}: {type(e).__name__}: {e}"

    while line := requests.readline():
        values = b""
        try:
            request = json.loads(line)
            values = read_values(request, requests)
            if request.get("call") == "quit":
                head, values = {"ok": True}, b""
            elif session is None:
                raise Refused(broken)
            else:
                head, values = session.answer(request, values)
        except EOFError:
            return 1
        except Refused as e:
            head, values = {"ok": False, "error": str(e)}, b""
        except Exception as e:
            head, values = {"ok": False, "error": f"{type(e).__name__}: {e}"}, b""
        replies.write(json.dumps(head).encode() + b"\n" + values)
        replies.flush()
        if head["ok"] and request["call"] == "quit":
            return 0
    return 0


class Refused(Exception):
    """A request that cannot be answered, with the whole reason as its text."""


def read_values(request, stream):
    """The i64 values that follow `request`; read even if the call is then refused, so that the next line is a request."""
    tensors = {"encode": 2, "decode": 1}.get(request.get("call"), 0)
    count = tensors * int(request.get("batch", 0)) * int(request.get("length", 0)) * 8
    values = stream.read(count) if count else b""
    if len(values) < count:
        raise EOFError
    return values


class Session:
    def __init__(self, folder, dtype):
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()
        asked = {"dtype": getattr(torch, dtype)} if dtype else {}
        self.torch, self.transformers = torch, transformers
        self.model, info = transformers.AutoModelForSeq2SeqLM.from_pretrained(
            folder, attn_implementation="eager", output_loading_info=True, **asked
        )
        self.model.eval()
        # compressed-tensors unpacks W8A8 in a hook on the whole model; the encoder alone would run on the codes.
        if hasattr(self.model, "ct_decompress_hook"):
            one = torch.ones((1, 1), dtype=torch.int64)
            with torch.no_grad():
                self.model(input_ids=one, decoder_input_ids=one)
        self.missing = sorted(map(str, info["missing_keys"]))
        self.unexpected = sorted(map(str, [*info["unexpected_keys"], *info.get("mismatched_keys", ())]))
        self.encoded = self.mask = self.past = None

    def answer(self, request, values):
        call = request.get("call")
        if call == "versions":
            return self.versions(), b""
        if self.missing or self.unexpected:
            raise Refused(f"checkpoint and model differ: missing {self.missing}, unexpected or of another shape {self.unexpected}")
        if call == "encode":
            return self.encode(*self.ids(request, values, 2))
        if call == "decode":
            return self.decode(*self.ids(request, values, 1))
        raise Refused(f"call: expected versions, encode, decode or quit, found {call!r}")

    def ids(self, request, values, tensors):
        shape = (tensors, int(request["batch"]), int(request["length"]))
        return self.torch.frombuffer(bytearray(values), dtype=self.torch.int64).view(shape)

    def versions(self):
        try:
            from compressed_tensors import __version__ as compressed_tensors
        except ImportError:
            compressed_tensors = None
        return {
            "ok": True, "transformers": self.transformers.__version__, "torch": self.torch.__version__,
            "compressed_tensors": compressed_tensors, "dtype": str(self.model.dtype).removeprefix("torch."),
            "missing": self.missing, "unexpected": self.unexpected,
        }  # fmt: skip

    def encode(self, ids, mask):
        with self.torch.inference_mode():
            self.encoded = self.model.get_encoder()(input_ids=ids, attention_mask=mask)
        self.mask, self.past = mask, None
        return {"ok": True}, b""

    def decode(self, ids):
        if self.encoded is None:
            raise Refused("decode before encode")
        if len(ids) != len(self.mask):
            raise Refused(f"batch: expected {len(self.mask)} as encoded, found {len(ids)}")
        with self.torch.inference_mode():
            out = self.model(
                encoder_outputs=self.encoded, attention_mask=self.mask, decoder_input_ids=ids,
                past_key_values=self.past, use_cache=True,
            )  # fmt: skip
        self.past = out.past_key_values
        logits = out.logits.float().contiguous()
        return {"ok": True, "vocab": logits.shape[-1]}, logits.numpy().tobytes()


if __name__ == "__main__":
    sys.exit(main())
