"""What each sentence of a report rests on."""
