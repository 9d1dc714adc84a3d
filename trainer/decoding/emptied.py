"""What to say when a beam leaves most recordings without text, although the best path writes some."""

from __future__ import annotations

from trainer.decoding.settings import Decoding


def describe_emptied(num_emptied: int, num_read: int, decoding: Decoding) -> str:
    """One line over `num_emptied` of `num_read` recordings in which the beam writes nothing and the best path writes
    something; "" unless they are most of them.

    The search is right about its own scores then: no text scores better than any that the options allow.
    """
    if 2 * num_emptied <= num_read:
        return ""
    if decoding.lexicon:
        source = f"{decoding.lm} (--lexicon lm)" if decoding.lexicon == "lm" else decoding.lexicon
        why = f"only words of {source} may be written, and the model hears others: give the words that are spoken, or "
        remedy = "leave out --lexicon"
    elif decoding.weights.word < 0:
        why, remedy = f"each word costs {-decoding.weights.word:g}: ", "raise --word-score"
    elif decoding.lm is not None:
        why = f"the language model outweighs the speech (weight {decoding.weights.lm:g}): "
        remedy = "lower --lm-weight, raise --word-score, or let scripts.evaluate tune both (--lm-weight auto)"
    else:
        why, remedy = "", "leave the beam out"
    return (
        f"the beam writes nothing in {num_emptied:,} of {num_read:,} recordings, although the best path writes text "
        f"there; {why}{remedy}"
    )
