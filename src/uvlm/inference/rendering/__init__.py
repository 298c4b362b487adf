"""Findings for people: a page with key images."""
