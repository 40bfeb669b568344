

"""One file in an engine that answers, behind a pipe: the far side of `transcribe.cpp` and `CrispASR`.

usage: far_side.py, a file that defines `Engine`, and this file as one program, with FILE THREADS SETTINGS

Loads FILE on the CPU under SETTINGS, an object of JSON, then answers requests from stdin on stdout until the end of stdin. A request
or reply is one line of JSON, then raw little-endian values, as many as the line implies:

    {"call":"versions"}              -> {"ok":true,"version":..,"told":..}
                                        the package's, and what was set
    {"call":"answer","text":"..","first":n}
                                     -> {"ok":true,"text":"..","ended":true}
        n the first token of the text, or null
    {"call":"answer","samples":n}    -> the same
        f32[n] at 16 kHz                whether it ended by itself, as far as the engine tells

A call that fails answers {"ok":false,"error":".."}, with "lacks" and the package when that is not installed. A file that did not load
answers so to every call.
"""
import array
import json


def main():
    requests, replies = answering()
    file, threads, settings = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    engine, broken = None, None
    try:
        engine = Engine(file, threads, settings)
    except (NotInstalled, Refused) as e:
        broken = e
    except Exception as e:
        broken = Refused(f"{file}: {type(e).__name__}: {e}")

    while line := requests.readline():
        try:
            request = json.loads(line)
            samples = None
            if "samples" in request:
                samples = array.array("f")
                samples.frombytes(requests.read(4 * request["samples"]))
            if broken is not None:
                raise broken
            head = reply(engine, request, samples)
        except NotInstalled as e:
            head = {"ok": False, "error": str(e), "lacks": e.package}
        except Refused as e:
            head = {"ok": False, "error": str(e)}
        except Exception as e:
            head = {"ok": False, "error": f"{type(e).__name__}: {e}"}
        replies.write(json.dumps(head).encode() + b"\n")
        replies.flush()
    return 0


def reply(engine, request, samples):
    call = request["call"]
    if call == "versions":
        return {"ok": True, "version": engine.version, "told": engine.told}
    if call == "answer":
        asked = [request["text"], request["first"]] if samples is None else [samples]
        text, ended = engine.answer(*asked)
        return {"ok": True, "text": text, "ended": ended}
    raise Refused(f"call: expected versions or answer, found {call!r}")


if __name__ == "__main__":
    sys.exit(main())
