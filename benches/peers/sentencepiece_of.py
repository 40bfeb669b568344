"""Writes the pieces of a folder's tokenizer.json as spiece.model, the one form in which llama.cpp's converter reads them.

usage: sentencepiece_of.py FOLDER
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
