"""Which clip to ask a person about: embeddings and probabilities in, rows out; nothing here knows models or files."""
