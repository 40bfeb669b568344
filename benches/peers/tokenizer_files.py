"""Writes beside a folder's tokenizer.json what the peers' converters read of a tokenizer.

usage: tokenizer_files.py FOLDER

spiece.model: the same pieces, in the one form that llama.cpp's converter knows. tokenizer_config.json: without it transformers adds
a hundred tokens of its own to a T5, and CTranslate2's converter then finds more tokens than the model has.
"""
import json
import pathlib
import sys

from sentencepiece import sentencepiece_model_pb2 as proto

folder = pathlib.Path(sys.argv[1])
tokenizer = json.loads((folder / "tokenizer.json").read_text())["model"]
model = proto.ModelProto()
model.trainer_spec.model_type = proto.TrainerSpec.UNIGRAM
model.trainer_spec.unk_id = tokenizer["unk_id"]
model.trainer_spec.pad_id, model.trainer_spec.eos_id, model.trainer_spec.bos_id = 0, 1, -1
kinds = {0: proto.ModelProto.SentencePiece.CONTROL, 1: proto.ModelProto.SentencePiece.CONTROL}
kinds[tokenizer["unk_id"]] = proto.ModelProto.SentencePiece.UNKNOWN
for place, (piece, score) in enumerate(tokenizer["vocab"]):
    model.pieces.add(piece=piece, score=score, type=kinds.get(place, proto.ModelProto.SentencePiece.NORMAL))
(folder / "spiece.model").write_bytes(model.SerializeToString())
special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
(folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5TokenizerFast", "extra_ids": 0, **special}))
