"""What CrispASR makes of texts: `translated.py FILE TEXT …` prints the answers as JSON."""
import json
import sys

import crispasr

session = crispasr.Session(sys.argv[1])
print(json.dumps([session.translate_text(text, "en", "en", 64) for text in sys.argv[2:]]))
