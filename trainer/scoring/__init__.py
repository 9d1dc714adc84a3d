"""From logits to error rates: evaluation, decoding, alignment, counts, intervals, groups of utterances."""
