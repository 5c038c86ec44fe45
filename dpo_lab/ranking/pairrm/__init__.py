"""PairRM, which compares two answers to a prompt, on transformers' tokenizers and an encoder of our own."""
