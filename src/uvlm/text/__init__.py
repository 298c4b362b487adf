"""Report cleaning, tokenizers and prompts."""
