"""One CTranslate2 translator behind a pipe: the far side of the `ctranslate2` engine.

usage: far_side.py and this file as one program, with FOLDER THREADS

Loads FOLDER on the CPU in the compute type that it was saved for, then answers requests from stdin on stdout until the end of
stdin. A request or reply is one line of JSON:

    {"call":"versions"}                                  -> {"ok":true,"version":..,"compute_type":..}
    {"call":"say","sources":[[..]],"options":{..}}       -> {"ok":true,"tokens":[[..]]}
        tokens of each source as the encoder is to see       what is said of each, the end token included
        them, but for those that config.json has the
        engine add; arguments of `translate_batch`

A call that fails answers {"ok":false,"error":".."}, with "lacks":"ctranslate2" when that package is not installed. A folder that
did not load answers so to every call.
"""
import json
import sys


def main():
    requests, replies = answering()
    folder, threads = sys.argv[1], int(sys.argv[2])
    translator, broken = None, None
    try:
        engine = installed("ctranslate2")
        translator = engine.Translator(folder, device="cpu", inter_threads=1, intra_threads=threads)
    except NotInstalled as e:
        broken = e
    except Exception as e:
        broken = Refused(f"{folder}: {type(e).__name__}: {e}")

    while line := requests.readline():
        try:
            request = json.loads(line)
            if broken is not None:
                raise broken
            if request["call"] == "versions":
                head = {"ok": True, "version": engine.__version__, "compute_type": translator.compute_type}
            elif request["call"] == "say":
                said = translator.translate_batch(request["sources"], **request["options"])
                head = {"ok": True, "tokens": [one.hypotheses[0] for one in said]}
            else:
                raise Refused(f"call: expected versions or say, found {request['call']!r}")
        except NotInstalled as e:
            head = {"ok": False, "error": str(e), "lacks": e.package}
        except Refused as e:
            head = {"ok": False, "error": str(e)}
        except Exception as e:
            head = {"ok": False, "error": f"{type(e).__name__}: {e}"}
        replies.write(json.dumps(head).encode() + b"\n")
        replies.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
