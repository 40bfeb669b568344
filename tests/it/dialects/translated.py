"""What CrispASR makes of texts: `translated.py FILE SOURCE TARGET LIMIT TEXT …` prints the answers as JSON.

The best token at each step, at most LIMIT of them.
"""
import json
import sys

import crispasr

file, source, target, limit, *texts = sys.argv[1:]
session = crispasr.Session(file)
try:
    session.set_beam_size(1)
except RuntimeError:
    pass  # T5 has one beam and is told nothing
print(json.dumps([session.translate_text(text, source, target, int(limit)) for text in texts]))
