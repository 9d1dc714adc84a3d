"""Which speakers and sentences of TIMIT are trained on, and on which test sets results are published."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from data.utterance import Splits

# The core test set, two men and a woman per dialect region (LDC's TESTSET.DOC)
CORE_TEST = """
    mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0 mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0
    mgrt0 mnjm0 fdhc0 mjln0 mpam0 fmld0
""".upper().split()
# The fifty development speakers of Kaldi's recipe (Halberstadt 1998), out of TEST, none of them core
DEV = """
    faks0 fdac1 fjem0 mgwt0 mjar0 mmdb1 mmdm2 mpdf0 fcmh0 fkms0 mbdg0 mbwm0 mcsh0 fadg0 fdms0 fedw0 mgjf0 mglb0
    mrtk0 mtaa0 mtdt0 mthc0 mwjg0 fnmr0 frew0 fsem0 mbns0 mmjr0 mdls0 mdlf0 mdvc0 mers0 fmah0 fdrw0 mrcs0 mrjm4
    fcal1 mmwh0 fjsj0 majc0 mjsw0 mreb0 fgjd0 fjmg0 mroa0 mteb0 mjfc0 mrjr0 fmml0 mrws1
""".upper().split()

# TEST holds "test-no-sa" (the complete test set of the LDC), which is "test-minus-dev" and "dev" together
_WITHIN = {"test-no-sa": "test", "test-minus-dev": "test-no-sa", "dev": "test-no-sa", "core": "test-minus-dev"}
_NAMES = {
    "test": "hf-{}", "test-no-sa": "full-{}", "core": "core-{}", "dev": "dev-{}", "test-minus-dev": "full-minus-dev",
}  # fmt: skip
_SCORED = ("test", "test-no-sa", "test-minus-dev", "core", "dev")
_WITH_SA = dict.fromkeys(_SCORED, "SA sentences were in training") | {
    "test": "its SA sentences were in training too, from other speakers"
}
_WITHOUT_SA = {"test": "holds SA sentences, none of which were in training"}

PROTOCOLS = {
    "hf": Splits(
        train="train", monitor="test", headline="test", closing=_SCORED,
        within=_WITHIN, protocols=_NAMES, notes=_WITH_SA,
    ),
    "no-sa": Splits(
        train="train-no-sa", monitor="test-no-sa", headline="test-no-sa",
        closing=("test-no-sa", "test", "test-minus-dev", "core", "dev"),
        within=_WITHIN, protocols=_NAMES, notes=_WITHOUT_SA,
    ),
    "kaldi": Splits(
        train="train-no-sa",
        monitor="dev",
        headline="core",
        closing=("core", "test-minus-dev", "dev"),
        selects=True,
        unselected={"test-no-sa": "contains dev", "test": "contains dev"},
        within=_WITHIN, protocols=_NAMES, notes=_WITHOUT_SA,
    ),
}  # fmt: skip
"""What each protocol trains and selects on. All report the same published test sets side by side."""


def with_speakers(splits: Splits, speakers: Set[str]) -> Splits:
    """`splits` of a tree whose TEST holds `speakers`: without those sets of which it holds none.

    What training cannot do without stays, and is an error where it is read.
    """
    there = {"core": speakers & {*CORE_TEST}, "dev": speakers & {*DEV}, "test-minus-dev": speakers - {*DEV}}
    lacking = {split for split, found in there.items() if not found} - {splits.monitor, splits.headline}
    return replace(splits, closing=tuple(split for split in splits.closing if split not in lacking))


def belongs(speaker: str | None, sentence_type: str | None, split: str) -> bool:
    """Whether a sentence of the part (TRAIN or TEST) that `split` is taken from is of that split. `speaker` is in upper
    case, `sentence_type` is SA, SX or SI."""
    if split in ("train", "test"):
        return True
    if sentence_type == "SA":
        return False
    match split:
        case "dev":
            return speaker in DEV
        case "core":
            return speaker in CORE_TEST
        case "test-minus-dev":
            return speaker not in DEV
        case _:  # train-no-sa, test-no-sa
            return True
