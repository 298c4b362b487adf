"""Token after token: how the next one is chosen, and when a report ends."""
