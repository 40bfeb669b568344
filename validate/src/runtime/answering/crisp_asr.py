# Before its library is loaded: an answer that repeats itself is not to be cut.
os.environ["CRISPASR_T5_REPEAT_BREAK"] = "0"


class Engine:
    """A model of CrispASR that reads texts.

    SETTINGS: tokens, the most that are said; languages, codes by the tokens that stand for them, none for a model that is told none;
    target, the code of the language in which answers are.
    """

    def __init__(self, file, threads, settings):
        package = installed("crispasr")
        self.version = package.__version__
        try:
            self.session = package.Session(file, n_threads=threads, use_gpu=False)
        except RuntimeError as e:
            # A list of all that it could open follows.
            raise Refused(str(e).partition(" libcrispasr was built with")[0]) from e
        self.session.set_beam_size(1)
        self.tokens = settings["tokens"]
        self.languages = {int(token): code for token, code in settings["languages"].items()}
        self.target = settings["target"]
        self.told = f"{self.session.backend}, repetitions not cut"

    def answer(self, text, first):
        # Without a language, no tag of one is put before the text.
        source = self.languages.get(first, "")
        if self.languages and not source:
            raise Refused(f"token {first}: expected that of a language before the text")
        return self.session.translate_text(text, source, self.target, self.tokens), True
