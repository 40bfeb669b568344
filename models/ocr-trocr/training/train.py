"""Train a small TrOCR on drawn lines and save it as a Hugging Face checkpoint.

usage: train.py G2P_DATA_DIR DATA_DIR OUT_DIR [--samples N] [--lr X] [--init DIR]    (DATA_DIR: of data.py)
"""
import argparse, json, math, random, time
from pathlib import Path

import numpy, torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, TrOCRConfig, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig

import data

a = argparse.ArgumentParser()
a.add_argument("g2p"); a.add_argument("data"); a.add_argument("out")
a.add_argument("--samples", type=int, default=400_000); a.add_argument("--batch", type=int, default=64)
a.add_argument("--lr", type=float, default=1e-3); a.add_argument("--init", help="continue from this checkpoint, with whole lines"); a.add_argument("--threads", type=int, default=1)
a = a.parse_args()
torch.manual_seed(0); torch.set_num_threads(a.threads)
rng = random.Random(0)
START, PAD, END = 0, 1, 2


def tokenizer():
    """One token a character; a text ends with </s>."""
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    spelled = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(c)[0][0] for c in data.CHARACTERS]
    t = Tokenizer(models.BPE({c: i for i, c in enumerate(names + spelled)}, [], unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END)])
    return PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


tok = tokenizer()
encoder = ViTConfig(hidden_size=128, num_hidden_layers=3, num_attention_heads=4, intermediate_size=512, qkv_bias=False,
    image_size=[data.HEIGHT, data.WIDTH], patch_size=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
decoder = TrOCRConfig(vocab_size=len(tok), d_model=96, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=384,
    max_position_embeddings=24, cross_attention_hidden_size=None, tie_word_embeddings=False, dropout=0.0, attention_dropout=0.0,
    activation_dropout=0.0, bos_token_id=START, pad_token_id=PAD, eos_token_id=END, decoder_start_token_id=END)
config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
config.pad_token_id, config.eos_token_id, config.decoder_start_token_id = PAD, END, END
model = VisionEncoderDecoderModel.from_pretrained(a.init).float() if a.init else VisionEncoderDecoderModel(config)
# Attention finds its place sooner where places are told louder than with the usual 0.02.
positions = [model.encoder.embeddings.position_embeddings, model.decoder.model.decoder.embed_positions.weight]
for weight in positions if not a.init else []: torch.nn.init.normal_(weight, std=0.2)
# What reads letters off the columns of patches while the model is young, and is thrown away.
columns = data.WIDTH // encoder.patch_size
letters = torch.nn.Linear(encoder.hidden_size, len(tok))
print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)


def pixels(picture):
    """As the processor makes them: resized, three equal channels, (x / 255 - 0.5) / 0.5."""
    small = picture.resize((data.WIDTH, data.HEIGHT), Image.BILINEAR)
    return numpy.asarray(small, numpy.float32)[None].repeat(3, 0) / 127.5 - 1


def ids(texts):
    rows = [tok(t).input_ids for t in texts]
    out = torch.full((len(rows), max(map(len, rows))), -100)
    for i, r in enumerate(rows): out[i, :len(r)] = torch.tensor(r)
    return out


def distance(x, y):
    row = list(range(len(y) + 1))
    for i, c in enumerate(x):
        last, row[0] = row[0], i + 1
        for j, d in enumerate(y): last, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, last + (c != d))
    return row[-1]


def score(split, limit):
    """Characters wrong and lines right of the files of a split, greedy."""
    rows = [json.loads(r) for r in open(Path(a.data) / f"{split}.jsonl")][:limit]
    model.eval(); wrong = length = right = 0
    for i in range(0, len(rows), 50):
        some = rows[i:i + 50]
        x = torch.tensor(numpy.stack([pixels(Image.open(Path(a.data) / r["input"])) for r in some]))
        said = tok.batch_decode(model.generate(x, max_new_tokens=20, num_beams=1, do_sample=False), skip_special_tokens=True)
        for s, r in zip(said, some):
            wrong += distance(s, r["target"]); length += len(r["target"]); right += s == r["target"]
    model.train()
    return {"lines": len(rows), "character_error": wrong / length, "exact": right / len(rows)}


vocabulary, _ = data.words(a.g2p)
steps = a.samples // a.batch
opt = torch.optim.AdamW([*model.parameters(), *letters.parameters()], lr=a.lr, weight_decay=0.01, betas=(0.9, 0.98))
sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min(s / 200, 1.0) * 0.5 * (1 + math.cos(math.pi * min(1, s / steps))))
began, mean, longest = time.time(), None, data.LONGEST if a.init else 3
model.train()
for s in range(steps):
    texts = [data.line(rng, vocabulary, longest) for _ in range(a.batch)]
    x = torch.tensor(numpy.stack([pixels(data.draw(rng, t)) for t in texts]))
    y = ids(texts)
    seen = model.encoder(x).last_hidden_state
    loss = said = model(encoder_outputs=(seen,), labels=y).loss
    if s < 0.4 * steps and not a.init:
        read = letters(seen[:, 1:].unflatten(1, (-1, columns)).mean(1)).log_softmax(-1).transpose(0, 1)
        lengths = torch.tensor([len(t) for t in texts])
        loss = loss + torch.nn.functional.ctc_loss(read, y.clamp(min=0), torch.full((len(texts),), columns), lengths, blank=PAD, zero_infinity=True) / 2
    opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0); opt.step(); sched.step()
    mean = said.item() if mean is None else 0.97 * mean + 0.03 * said.item()
    if longest < data.LONGEST and mean < 0.7 or s > 0.3 * steps and longest < data.LONGEST: longest, mean = longest + 1, mean + 0.3
    if s % 50 == 0: print(s, longest, f"{said.item():.4f} {loss.item():.4f} {time.time() - began:.0f} s", flush=True)
    if s and s % 1000 == 0: print(score("validation", 100), flush=True); model.save_pretrained(Path(a.out) / "so-far")

out = Path(a.out); out.mkdir(parents=True, exist_ok=True)
results = {"samples": steps * a.batch, "seconds": round(time.time() - began), "before_rounding": score("test", 500)}
model.half().save_pretrained(out); model.float()
results["test"] = score("test", 500)
tok.save_pretrained(out)
json.dump(results, open(out / "training.json", "w"), indent=1)
json.dump({"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": data.HEIGHT, "width": data.WIDTH}, "resample": 2,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_convert_rgb": True},
    open(out / "preprocessor_config.json", "w"), indent=1)
print(results)
