"""One CTranslate2 model behind a pipe: the far side of the `ctranslate2` engine.

usage: far_side.py and this file as one program, with FOLDER THREADS

Loads FOLDER on the CPU in the compute type that it was saved for, then answers requests from stdin on stdout until the end of
stdin. A request or reply is one line of JSON, then raw little-endian values, as many as the line implies:

    {"call":"versions"}                                  -> {"ok":true,"version":..,"compute_type":..}
    {"call":"say","sources":[[..]],"options":{..}}       -> {"ok":true,"tokens":[[..]]}
        tokens of each source as the encoder is to see       what is said of each, the end token included
        them, but for those that config.json has the
        engine add; arguments of `translate_batch`
    {"call":"encode","sources":[[..]]}                   -> {"ok":true}
    {"call":"encode","shape":[B,mels,frames]}            -> {"ok":true}
        f32 features
    {"call":"decode","starts":[..],"given":[[..]],"last":n}  -> {"ok":true,"vocab":V}
        the first token of each target, null where the       f32 logits[B,n,V] after the last n of them
        engine knows it, and all others so far; for speech
        ids
    {"call":"keep","rows":[..]}                          -> {"ok":true}
        goes on with these sequences alone

A call that fails answers {"ok":false,"error":".."}, with "lacks":"ctranslate2" when that package is not installed. A folder that
did not load answers so to every call.
"""
import json
import os
import sys
import tempfile

# Steps that are computed beyond a token that was given, as far as there are positions: whoever decodes greedily asks for these next. Each
# call begins anew, so that fewer would cost more.
AHEAD = 16


def main():
    requests, replies = answering()
    folder, threads = sys.argv[1], int(sys.argv[2])
    model, broken = None, None
    try:
        model = opened(folder, threads)
    except NotInstalled as e:
        broken = e
    except Exception as e:
        broken = Refused(f"{folder}: {type(e).__name__}: {e}")

    while line := requests.readline():
        values = b""
        try:
            request = json.loads(line)
            features = None
            if request.get("shape"):
                features = requests.read(4 * request["shape"][0] * request["shape"][1] * request["shape"][2])
            if broken is not None:
                raise broken
            head, values = answer(model, request, features)
        except NotInstalled as e:
            head = {"ok": False, "error": str(e), "lacks": e.package}
        except Refused as e:
            head = {"ok": False, "error": str(e)}
        except Exception as e:
            head = {"ok": False, "error": f"{type(e).__name__}: {e}"}
        replies.write(json.dumps(head).encode() + b"\n" + values)
        replies.flush()
    return 0


def answer(model, request, features):
    call = request["call"]
    if call == "versions":
        return {"ok": True, "version": model.engine.__version__, "compute_type": model.model.compute_type}, b""
    if call == "say":
        said = model.model.translate_batch(request["sources"], **request["options"])
        return {"ok": True, "tokens": [one.hypotheses[0] for one in said]}, b""
    if call == "encode":
        model.encode(request, features)
        return {"ok": True}, b""
    if call == "decode":
        logits = model.decode(request["starts"], request["given"], request["last"])
        return {"ok": True, "vocab": logits.shape[-1]}, logits.tobytes()
    if call == "keep":
        model.keep(request["rows"])
        return {"ok": True}, b""
    raise Refused(f"call: expected versions, say, encode, decode or keep, found {call!r}")


def opened(folder, threads):
    engine, numpy = installed("ctranslate2"), installed("numpy")
    settings = {"device": "cpu", "inter_threads": 1, "intra_threads": threads}
    speech = os.path.exists(os.path.join(folder, "vocabulary.json"))
    return (Speech if speech else Texts)(engine, numpy, folder, settings)


class Model:
    """Sequences with the logits of all their tokens, and of some more that the engine chose."""

    def encode(self, request, features):
        self.read(request, features)
        self.said = self.logits = None
        self.ahead = AHEAD

    def decode(self, starts, given, last):
        count = 1 + len(given[0])
        if not self.has(given):
            # Whoever feeds a whole target asks for nothing after it.
            ahead = self.ahead if last == 1 else 0
            try:
                self.said, self.logits = self.run(starts, given, count + ahead)
            except RuntimeError:
                if ahead == 0:
                    raise
                self.ahead = 0
                self.said, self.logits = self.run(starts, given, count)
            if not self.has(given):
                raise Refused(f"expected logits of {count} target tokens, found {[len(row) for row in self.logits]}")
        return self.numpy.ascontiguousarray([row[count - last : count] for row in self.logits], dtype="<f4")

    def has(self, given):
        if self.said is None:
            return False
        rows = zip(given, self.said, self.logits, strict=True)
        return all(said[: len(row)] == row and len(logits) > len(row) for row, said, logits in rows)

    def keep(self, rows):
        self.keep_sources(rows)
        if self.said is not None:
            self.said, self.logits = [self.said[row] for row in rows], [self.logits[row] for row in rows]

    def array(self, logits):
        return [self.numpy.array(step) for step in logits]


class Texts(Model):
    def __init__(self, engine, numpy, folder, settings):
        self.engine, self.numpy = engine, numpy
        self.model = engine.Translator(folder, **settings)

    def read(self, request, _features):
        self.sources = request["sources"]

    def run(self, starts, given, steps):
        prefix = given if starts is None else [[start, *row] for start, row in zip(starts, given, strict=True)]
        found = self.model.translate_batch(
            self.sources, prefix, beam_size=1, max_input_length=0, max_decoding_length=steps, min_decoding_length=0,
            return_end_token=True, return_logits_vocab=True,
        )  # fmt: skip
        return [one.hypotheses[0] for one in found], [self.array(one.logits[0]) for one in found]

    def keep_sources(self, rows):
        self.sources = [self.sources[row] for row in rows]


class Speech(Model):
    """Whisper. Its `generate` has rules of its own for tokens after `<|startoftranscript|>` and before the text, and shows no logits of
    these. So that it says of any target what the decoder says, it is given names of tokens by which the first one of a target is the
    start, the end and `<|notimestamps|>` in one."""

    def __init__(self, engine, numpy, folder, settings):
        self.engine, self.numpy, self.folder, self.settings = engine, numpy, folder, settings
        with open(os.path.join(folder, "vocabulary.json"), encoding="utf-8") as file:
            self.tokens = json.load(file)
        self.open(0)

    def open(self, start):
        home = tempfile.mkdtemp()
        for name in ["model.bin", "config.json"]:
            os.symlink(os.path.join(self.folder, name), os.path.join(home, name))
        names = [str(i) for i in range(len(self.tokens))]
        names[start] = "<|endoftext|>"
        with open(os.path.join(home, "vocabulary.json"), "w", encoding="utf-8") as file:
            json.dump(names, file)
        self.model, self.start = self.engine.models.Whisper(home, **self.settings), start

    def read(self, request, features):
        self.features = self.numpy.frombuffer(features, dtype="<f4").reshape(request["shape"]).copy()
        self.encoded = None

    def run(self, starts, given, steps):
        start = starts[0]
        if starts.count(start) < len(starts):
            raise Refused(f"expected targets that begin alike, found {starts}")
        if start != self.start:
            self.open(start)
        if self.encoded is None:
            self.encoded = self.numpy.array(self.model.encode(self.engine.StorageView.from_array(self.features)))
        found = self.model.generate(
            self.engine.StorageView.from_array(self.encoded), [[start, *row] for row in given], beam_size=1, max_length=2 * steps, suppress_blank=False,
            suppress_tokens=[], return_logits_vocab=True,
        )  # fmt: skip
        return [one.sequences_ids[0] for one in found], [self.array(one.logits[0]) for one in found]

    def keep_sources(self, rows):
        self.features = self.numpy.ascontiguousarray(self.features[rows])
        if self.encoded is not None:
            self.encoded = self.numpy.ascontiguousarray(self.encoded[rows])


if __name__ == "__main__":
    sys.exit(main())
