"""Who says what in the synthetic corpus: speakers, voices and sentences as a pure function of (size, seed).

TIMIT's pattern: ten sentences a speaker, two SA read by all, five SX read by about seven speakers each, three SI read
by one; no SX or SI text and no voice variant in both splits. Test speakers carry TIMIT's real ids as far as they go, so
that the published speaker lists work on the tree. Nothing is spoken here: see synthetic.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass

from data.corpora.synthetic import sentences
from data.corpora.timit.protocols import CORE_TEST, DEV
from data.randomness import derive_seed

ACCENTS = ("en-us", "en-us-nyc", "en", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-gb-x-rp", "en-029")
"""espeak-ng's voices for DR1 to DR8."""

# Variants of one line differ so little (formants, pitch) that hearing one is hearing the others: they stay in one
# split. Left out of espeak-ng's 106: whisperers (whisper, whisperf, caleb), robots and echoes (Demonic, UniRobot,
# announcer, anikaRobot, Marco, RicishayMax 1-3, robosoft 1-8), a toddler (zac), a clipping voice (iven), two that buzz
# (klatt, klatt2) and three that are the default or nearly so (fast, "Mr serious", Tweaky).
FEMALE = """
steph steph2 steph3
linda belinda
f3 f4
f2 f5
Alicia
Andrea
Annie
anika
aunty
f1
grandma
"""
MALE = """
Diogo Henrique Hugo michel miguel
john norbert pedro croak
adam benjamin klatt6 edward2
edward klatt5
Gene Gene2
iven2 iven3 iven4
Mike mike2
Andy Lee
Mario Michael gustave
Alex
AnxiousAndy
Denis
Jacky
Nguyen
Reed
Storm
antonio
boris
david
ed
grandpa
ian
kaukovalta
klatt3
klatt4
m1
m2
m3
m4
m5
m6
m7
m8
marcelo
max
pablo
paul
quincy
rob
robert
sandro
shelby
travis
victor
"""
NUM_TEST_VARIANTS = {"F": 6, "M": 18}
"""At least so many, so that the demo's 24 test speakers have a variant each."""

FIRST_SX, FIRST_SI = 3, 453
"""The lowest numbers of SX and SI sentences, as in TIMIT."""


@dataclass(frozen=True)
class Size:
    """How many speakers of each sex, (F, M), and how they speak."""

    train: tuple[int, int]
    core: tuple[int, int]
    dev: tuple[int, int]
    other_test: tuple[int, int]
    grammar: sentences.Grammar
    shared: tuple[str, str]
    rates: tuple[int, int]
    """Words a minute, lowest and highest."""
    pads: tuple[float, float]
    """Seconds of silence at either end, shortest and longest."""
    lengths: tuple[float, float, float, float] | None = None
    """Characters a sentence aims at: log-normal median and sigma, least, most; None: whatever the grammar gives."""


SIZES = {
    "tiny": Size((2, 2), (1, 1), (0, 1), (1, 0), sentences.DEMO, sentences.FULL_SHARED, (212, 238), (0.03, 0.05)),
    "demo": Size((36, 84), (2, 6), (2, 6), (2, 6), sentences.DEMO, sentences.DEMO_SHARED, (212, 238), (0.03, 0.05)),
    "full": Size(
        (136, 326), (8, 16), (18, 32), (30, 64), sentences.FULL, sentences.FULL_SHARED, (158, 194), (0.06, 0.14),
        (52, 0.33, 31, 118),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Speaker:
    """One speaker: identity, voice and what is read."""

    id: str
    split: str
    """TRAIN or TEST."""
    dialect: int
    """1 to 8."""
    variant: str
    """espeak-ng's voice variant."""
    pitch: int
    """espeak-ng's 0 to 99."""
    rate: int
    """Words a minute."""
    peak: float
    """Loudest sample of every utterance, as a fraction of full scale."""
    pads: tuple[float, ...]
    """Seconds of silence at either end of each prompt."""
    prompts: tuple[tuple[str, str], ...]
    """(SA1, text), ..."""

    @property
    def accent(self) -> str:
        return ACCENTS[self.dialect - 1]

    @property
    def voice(self) -> str:
        """The name by which espeak-ng knows accent and variant."""
        return f"{self.accent}+{self.variant}"


def plan(size: str, seed: int) -> tuple[Speaker, ...]:
    """All speakers of that corpus, those of TRAIN first."""
    shape = SIZES[size]
    ids = _speaker_ids(shape, random.Random(derive_seed("synthetic", seed, size, "ids")))
    variants = _variants(random.Random(derive_seed("synthetic", seed, "variants")))
    num_sx = {split: max(5, round(5 * len(ids[split]) / 7)) for split in ids}
    total_sx, total_si = sum(num_sx.values()), 3 * sum(map(len, ids.values()))
    texts = _texts(shape, total_sx + total_si, random.Random(derive_seed("synthetic", seed, size, "texts")))
    sx, si = texts[:total_sx], texts[total_sx:]
    speakers: list[Speaker] = []
    for split, first_sx in (("TRAIN", 0), ("TEST", num_sx["TRAIN"])):
        heard: Counter[str] = Counter()
        for index, speaker_id in enumerate(ids[split]):
            dialect = _dialect(speaker_id, [speaker for speaker in speakers if speaker.split == split])
            rng = random.Random(derive_seed("synthetic", seed, size, speaker_id))
            pool = variants[split, speaker_id[0]]
            variant = min(pool, key=lambda name: (heard[name], heard[f"{name} {dialect}"], rng.random()))
            heard.update([variant, f"{variant} {dialect}"])
            sx_read = [first_sx + (5 * index + offset) % num_sx[split] for offset in range(5)]
            si_read = [3 * len(speakers) + offset for offset in range(3)]
            prompts = [(f"SA{number}", text) for number, text in enumerate(shape.shared, start=1)]
            prompts += [(f"SX{FIRST_SX + number}", sx[number]) for number in sx_read]
            prompts += [(f"SI{FIRST_SI + number}", si[number]) for number in si_read]
            speaker = Speaker(
                id=speaker_id,
                split=split,
                dialect=dialect,
                variant=variant,
                pitch=rng.randint(35, 65),
                rate=rng.randint(*shape.rates),
                peak=10 ** (rng.uniform(-14, -4) / 20),
                pads=tuple(rng.uniform(*shape.pads) for _ in prompts),
                prompts=tuple(prompts),
            )
            speakers.append(speaker)
    return tuple(speakers)


def _speaker_ids(shape: Size, rng: random.Random) -> dict[str, list[str]]:
    """Ids per split: real test speakers' as `shape` asks for, the others invented in TIMIT's form."""
    taken = {*CORE_TEST, *DEV}

    def invent(sex: str) -> str:
        while (name := sex + "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=3)) + rng.choice("00012")) in taken:
            pass
        taken.add(name)
        return name

    def real(names: list[str], numbers: tuple[int, int]) -> list[str]:
        chosen = [rng.sample([n for n in names if n[0] == sex], k) for sex, k in zip("FM", numbers, strict=True)]
        return sorted(chosen[0] + chosen[1], key=names.index)

    def invented(numbers: tuple[int, int]) -> list[str]:
        return [invent(sex) for sex, number in zip("FM", numbers, strict=True) for _ in range(number)]

    return {
        "TRAIN": invented(shape.train),
        "TEST": real(CORE_TEST, shape.core) + real(DEV, shape.dev) + invented(shape.other_test),
    }


def _variants(rng: random.Random) -> dict[tuple[str, str], list[str]]:
    """Variants per (split, sex); a family of look-alikes goes to one split. The same for every size."""
    pools: dict[tuple[str, str], list[str]] = {}
    for sex, listing in (("F", FEMALE), ("M", MALE)):
        families = [line.split() for line in listing.strip().splitlines()]
        rng.shuffle(families)
        pools["TEST", sex], pools["TRAIN", sex] = [], []
        for family in families:
            split = "TEST" if len(pools["TEST", sex]) < NUM_TEST_VARIANTS[sex] else "TRAIN"
            pools[split, sex] += family
    return pools


def _dialect(speaker_id: str, others: list[Speaker]) -> int:
    """A core test speaker's own region, else the one with the fewest speakers so far."""
    if speaker_id in CORE_TEST:
        return CORE_TEST.index(speaker_id) // 3 + 1
    numbers = Counter(other.dialect for other in others)
    return min(range(1, len(ACCENTS) + 1), key=lambda dialect: numbers[dialect])


def _texts(shape: Size, number: int, rng: random.Random) -> list[str]:
    """`number` distinct sentences, none of them an SA sentence."""
    texts: dict[str, None] = {}
    while len(texts) < number:
        num_letters = None
        if shape.lengths:
            median, sigma, least, most = shape.lengths
            num_letters = min(most, max(least, median * math.exp(rng.gauss(0, sigma))))
        text = sentences.sentence(shape.grammar, rng, num_letters)
        if text not in shape.shared:
            texts[text] = None
    return list(texts)
