

ERROR = 3
COMPLAINTS = 4


class Engine:
    """A model of transcribe.cpp. SETTINGS: language, a code or null for one that is detected; task."""

    def __init__(self, file, threads, settings):
        self.package = installed("transcribe_cpp")
        self.version = self.package.__version__
        self.complaints = []
        self.package.set_log_callback(self.hear)
        try:
            self.model = self.package.Model(file, backend="cpu")
        except self.package.TranscribeError as e:
            raise Refused(f"{file}: {e}: {'; '.join(self.complaints[-COMPLAINTS:])}") from e
        self.session = self.model.session(n_threads=threads, kv_type="f32")
        self.settings = {"timestamps": "none", "spec_k_drafts": 0, "task": settings["task"]}
        if settings["language"] is not None:
            self.settings["language"] = settings["language"]
        # Whisper's own recipe decodes anew with noise what it finds unlikely, and drops what it takes for silence.
        off = float("inf")
        plain = self.package.WhisperRunOptions(
            temperature=0.0, temperature_inc=0.0, compression_ratio_thold=off, logprob_thold=-off, no_speech_thold=off,
            condition_on_prev_tokens=False,
        )  # fmt: skip
        fallback = ""
        if self.model.accepts(plain):
            self.settings["family"] = plain
            fallback = ", no temperature fallback, no threshold of silence"
        self.told = f"{self.model.backend}, keys and values in f32, no timestamps{fallback}"

    def hear(self, level, message):
        """What its library says of itself: its errors alone tell why a file is refused."""
        print(message, end="", file=sys.stderr, flush=True)
        if level == ERROR:
            self.complaints.append(message.strip())

    def answer(self, samples):
        try:
            return self.session.run(samples, **self.settings).text, True
        except self.package.OutputTruncated as e:
            return e.partial_result.text, False
