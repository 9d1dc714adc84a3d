"""Corpora as shards: a few large files in place of millions of small ones, read from a disk or an object store.

    DIR/shard-000000.tar   ID.flac and ID.json of each utterance, uncompressed: WebDataset's layout
    DIR/index.arrow        Arrow IPC: shard, byte offset, bytes, samples, text, speaker, digest of each utterance
    DIR/shards.json        format, and bytes and digest of every file above; written last, so what has it is complete

packing what bytes stand for an utterance     tarring  those bytes in a tar       index    the two files beside the tars
building all shards, in parallel, resumable   storage  byte ranges, retries       cache    ranges kept on this machine
table    utterances that are made when asked  checking every byte again
"""
