"""One colour for one thing, in pictures and on the page.

Okabe and Ito's palette: told apart with any colour vision, and by lightness in print.
"""

PHASES = {"forward": "#0072B2", "backward": "#7B4FA3", "update": "#8A8A8A", "other": "#B5B5B5"}
OUT, IN, STALL, BUDGET = "#E69F00", "#009E73", "#D55E00", "#000000"
#: The part of an op in which it waits.
WAITING = "#FBE0D2"
#: The device first, then the tiers of the store, the nearest first.
TIERS = ("#56B4E9", "#F6C667", "#CC79A7")
