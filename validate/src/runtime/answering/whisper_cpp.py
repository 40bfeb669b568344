

class Engine:
    """A model of whisper.cpp. SETTINGS: language, a code or null for one that is detected; task."""

    def __init__(self, file, threads, settings):
        installed("pywhispercpp")
        from importlib.metadata import version

        import numpy
        from pywhispercpp.model import Model

        self.version, self.array = version("pywhispercpp"), numpy.asarray
        # It decodes anew with noise what it finds unlikely, and drops what it takes for silence.
        plain = {
            "temperature": 0.0, "temperature_inc": 0.0, "entropy_thold": 0.0, "logprob_thold": -1e9, "no_speech_thold": 2.0,
            "no_context": True, "no_timestamps": True, "single_segment": True, "greedy": {"best_of": 1},
            "print_progress": False, "print_realtime": False, "print_timestamps": False,
        }  # fmt: skip
        language = settings["language"] or "auto"
        try:
            # With it, frames are filled up with zeros, which are looked at.
            self.model = Model(
                file, redirect_whispercpp_logs_to=sys.stderr, context_params={"use_gpu": False, "flash_attn": False},
                n_threads=threads, language=language, translate=settings["task"] == "translate", **plain,
            )  # fmt: skip
        except Exception as e:
            raise Refused(f"{file}: {e}") from e
        self.told = "CPU, no flash attention, no temperature fallback, no threshold of silence, no timestamps"

    def answer(self, samples):
        segments = self.model.transcribe(self.array(samples, dtype="float32"))
        return "".join(segment.text for segment in segments), True
