"""Converts a checkpoint of transformers with CTranslate2's own converter.

usage: python ctranslate2_convert.py CHECKPOINT_DIR OUT_DIR [--ids]

OUT_DIR gets model.bin, config.json and the vocabularies; weights stay as they are stored. With --ids the checkpoint needs no
tokenizer, and its tokens are its ids in digits. Prints one line of JSON with the versions of the packages.
"""
import json
import sys
from importlib.metadata import version

from ctranslate2.converters import TransformersConverter
from transformers import AutoConfig


class Ids:
    """What the converter asks of a tokenizer."""

    bos_token, eos_token, unk_token, pad_token = "0", "1", "2", "0"
    num_madeup_words = 0

    def __init__(self, count):
        self.count = count

    def get_vocab(self):
        return {str(i): i for i in range(self.count)}

    @property
    def special_tokens_map(self):
        return {}

    def convert_ids_to_tokens(self, i):
        return str(i)


class WithoutTokenizer(TransformersConverter):
    def load_tokenizer(self, tokenizer_class, model_name_or_path, **kwargs):
        return Ids(AutoConfig.from_pretrained(model_name_or_path).vocab_size)


def main(checkpoint, out, ids=None):
    (WithoutTokenizer if ids == "--ids" else TransformersConverter)(checkpoint).convert(out, force=True)
    print(json.dumps({package: version(package) for package in ("ctranslate2", "transformers", "torch")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
