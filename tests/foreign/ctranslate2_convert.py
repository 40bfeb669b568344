"""Converts a checkpoint of transformers with CTranslate2's own converter.

usage: python ctranslate2_convert.py CHECKPOINT_DIR OUT_DIR

OUT_DIR gets model.bin, config.json and the vocabularies; weights stay as they are stored. Prints one line of JSON with the versions
of the packages.
"""
import json
import sys
from importlib.metadata import version

from ctranslate2.converters import TransformersConverter


def main(checkpoint, out):
    TransformersConverter(checkpoint).convert(out, force=True)
    print(json.dumps({package: version(package) for package in ("ctranslate2", "transformers", "torch")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
