"""The book that tools/book.sh makes of this folder. A link or an anchor that leads nowhere fails it."""
project = "trefoil"
extensions = ["myst_parser"]
root_doc = "index"
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Encoder-decoder models for NPUs, CPUs and browsers", "page_width": "72rem", "fixed_sidebar": True}
html_show_copyright = False
html_show_sourcelink = False
nitpicky = True
