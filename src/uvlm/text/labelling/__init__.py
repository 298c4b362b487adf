"""Labels of a report, read from its words by rules, each decision with the words it rests on."""
