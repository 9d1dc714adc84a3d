"""From files of sound to samples: decoding, what a container promises, the store of decoded audio."""
