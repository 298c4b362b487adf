"""A result as text, Markdown, a self-contained page and plots."""
