"""Opens an artifact of a fixture with Optimum or with transformers, and generates from the recorded sources.

usage: python fixture_open.py optimum|transformers DIR FIXTURE

FIXTURE is the folder that the artifact was grown from. Its recorded sources are fed as they are, without a tokenizer. Prints one line of
JSON: {FORM: {"greedy": [[ids]], "prompt_greedy": [[ids]] where text prompts are recorded} or {"error": ".."}, "versions": {..}}, where
FORM is `merged`, `pair` and `torch` for Optimum, the last being the fixture itself in the same transformers, and `folder` for
transformers. Exits 1 when no form generates.
"""
import json
import sys
from importlib.metadata import version

import torch
from safetensors.torch import load_file

MAX_NEW_TOKENS = 12  # as recorded
# What is neither is text.
SPEECH = ("whisper", "moonshine")
IMAGES = ("vision-encoder-decoder", "florence2")


def sources(recorded):
    """Name of the recorded tokens -> what they were generated from."""
    names = ("input_ids", "input_features", "input_values", "pixel_values", "attention_mask")
    found = {"greedy": {name: recorded[name] for name in names if name in recorded}}
    if "prompt_ids" in recorded and "pixel_values" not in recorded:
        found["prompt_greedy"] = {"input_ids": recorded["prompt_ids"], "attention_mask": recorded["prompt_mask"]}
    return found


def taken(model, source):
    """Of an image and a prompt: as many ids of images before the prompt as the image has features."""
    if not {"input_ids", "pixel_values"} <= source.keys():
        return source
    ids, mask = source["input_ids"], source["attention_mask"]
    features = model.get_image_features(source["pixel_values"]).pooler_output
    image = ids.new_full(features.shape[:2], model.config.image_token_id)
    return source | {"input_ids": torch.cat([image, ids], 1), "attention_mask": torch.cat([torch.ones_like(image), mask], 1)}


def optimum(folder, reads, form):
    from optimum.onnxruntime import ORTModelForSeq2SeqLM, ORTModelForSpeechSeq2Seq, ORTModelForVision2Seq

    family = {"speech": ORTModelForSpeechSeq2Seq, "images": ORTModelForVision2Seq, "text": ORTModelForSeq2SeqLM}[reads]
    return family.from_pretrained(folder, use_merged=form == "merged", use_cache=True, provider="CPUExecutionProvider")


def transformers(folder, reads, form):
    from transformers import AutoModelForImageTextToText, AutoModelForSeq2SeqLM, AutoModelForSpeechSeq2Seq

    family = {"speech": AutoModelForSpeechSeq2Seq, "images": AutoModelForImageTextToText, "text": AutoModelForSeq2SeqLM}[reads]
    # Weights of 16 bits would be computed with in 16 bits.
    model, info = family.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    left = {key: sorted(map(str, info[key])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[key]}
    if left:
        raise ValueError(f"checkpoint and model differ: {left}")
    return model.eval()


def settings_of(fixture):
    from transformers import GenerationConfig

    try:
        return {"generation_config": GenerationConfig.from_pretrained(fixture)}
    except OSError:
        return {}  # the folder has none


def generate(consumer, folder, fixture, reads, form, recorded):
    try:
        # Given, because Optimum fills what it does not find with the defaults of config classes.
        settings = settings_of(fixture) if consumer == "optimum" else {}
        ours = consumer == "optimum" and form != "torch"
        model = optimum(folder, reads, form) if ours else transformers(fixture if form == "torch" else folder, reads, form)
        with torch.no_grad():
            return {
                name: model.generate(**taken(model, source), **settings, num_beams=1, do_sample=False, max_new_tokens=MAX_NEW_TOKENS).tolist()
                for name, source in sources(recorded).items()
            }
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}


def main(consumer, folder, fixture):
    torch.set_num_threads(1)
    with open(f"{folder}/config.json") as f:
        model_type = json.load(f)["model_type"]
    reads = "speech" if model_type in SPEECH else "images" if model_type in IMAGES else "text"
    forms = {"optimum": ["merged", "pair", "torch"], "transformers": ["folder"]}[consumer]
    recorded = load_file(f"{fixture}/expected.safetensors")
    said = {form: generate(consumer, folder, fixture, reads, form, recorded) for form in forms}
    packages = ["torch", "transformers", *(["optimum-onnx", "onnxruntime"] if consumer == "optimum" else ["compressed-tensors"])]
    print(json.dumps(said | {"versions": {p: version(p) for p in packages}}))
    return 0 if any("error" not in tokens for tokens in said.values()) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
