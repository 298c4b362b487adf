"""The Penn Treebank tokeniser of pycocoevalcap: Stanford's, in Java, punctuation then removed."""

from __future__ import annotations

from collections.abc import Sequence

from uvlm.evaluation.words.java import find_jar, run_java

__all__ = ["ptb_tokens"]

JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
BRACKETS = ("-LRB-", "-RRB-", "-LCB-", "-RCB-")
DROPPED = frozenset(
    ("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", *BRACKETS)
)
"""pycocoevalcap/tokenizer/ptbtokenizer.py, PUNCTUATIONS. Lower-casing makes "-lrb-" of "-LRB-",
so that brackets stay, there as here."""


def ptb_tokens(texts: Sequence[str]) -> list[list[str]]:
    """Lower-case tokens of each text.

    Raises:
        SkippedError: Java or the jar is absent, or the program fails.
    """
    arguments = ["-Xmx256m", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", "-cp", str(find_jar(JAR))]
    arguments += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    lines = [" ".join(text.split()) for text in texts]
    (found,) = run_java(arguments, [lines], 120.0 + 0.1 * len(lines))
    return [[word for word in line.split() if word not in DROPPED] for line in found]
