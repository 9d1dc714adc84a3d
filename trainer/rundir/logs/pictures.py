"""Posteriors as a picture: a row for each unit, a column for each frame; darker means more probable."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.text.vocab import Vocab
from trainer.scoring.scores import Followed

EXPECTED, UNEXPECTED, BLANK = (31, 90, 160), (200, 60, 40), (110, 110, 110)
ROW, WIDTH, MAX_ROWS = 19, 960, 40
LEFT, TOP, BOTTOM = 66, 50, 26
"""Pixels around the rows: left the units' names, above two lines of text, below the seconds."""
FONT = 17
"""Height in pixels. TensorBoard shows a picture at about 60 % of its size, and text must stay readable."""


def chosen_rows(followed: Followed, blank_id: int) -> list[int]:
    """Units to draw: those of the reference in its order, others that are likely in some frame, and the blank.

    With the rows in the reference's order, a good transcript runs from the upper left to the lower right.
    """
    expected = list(dict.fromkeys(followed.targets))
    others = [int(unit) for unit in np.flatnonzero(followed.posteriors.max(axis=0) >= 0.3)]
    rows = [unit for unit in dict.fromkeys([*expected, *others]) if unit != blank_id]
    return [*rows[: MAX_ROWS - 1], blank_id]


def draw_posteriors(followed: Followed, vocab: Vocab, hypothesis: str, reference: str) -> np.ndarray:
    """uint8 (H, W, 3): blue where the reference has the unit, red where it has not, grey for the blank."""
    blank_id = vocab.blank_id
    rows = chosen_rows(followed, blank_id)
    num_frames = len(followed.posteriors)
    scale = max(1, min(6, WIDTH // num_frames))
    colours = np.array([BLANK if u == blank_id else EXPECTED if u in followed.targets else UNEXPECTED for u in rows])
    share = followed.posteriors[:, rows].T[..., None]
    cells = 255 - share * (255 - colours[:, None, :])  # (rows, frames, 3)
    cells = cells.round().astype(np.uint8).repeat(ROW, axis=0).repeat(scale, axis=1)
    picture = np.full((TOP + len(cells) + BOTTOM, max(LEFT + cells.shape[1] + 8, 600), 3), 255, np.uint8)
    picture[TOP : TOP + len(cells), LEFT : LEFT + cells.shape[1]] = cells
    image = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(FONT)
    for line, (label, text) in enumerate((("said", reference), ("heard", hypothesis))):
        draw.text((4, 2 + 23 * line), label, fill=(110, 110, 110), font=font)
        draw.text((LEFT, 2 + 23 * line), text.replace(" ", "  ") or "(nothing)", fill=(0, 0, 0), font=font)
    for i, unit in enumerate(rows):
        name = {vocab.blank: "blank", vocab.word_delimiter: "space"}.get(vocab.tokens[unit], vocab.tokens[unit])
        draw.text((4, TOP + ROW * i - 2), name[:6], fill=(0, 0, 0), font=font)
    for second in range(int(followed.num_seconds) + 1):
        x = LEFT + round(second / followed.num_seconds * num_frames * scale)
        draw.line((x, TOP + len(cells), x, TOP + len(cells) + 3), fill=(0, 0, 0))
        draw.text((x + 2, TOP + len(cells) + 2), f"{second} s", fill=(110, 110, 110), font=font)
    return np.asarray(image)
