"""Encoder, heads, alignment, injection, decoder, and one composition per paper."""
