"""The protocols of `uvlm evaluate report` that compare words, as `--list` explains them."""

from __future__ import annotations

from uvlm.evaluation.protocol_info import ProtocolInfo
from uvlm.evaluation.words.adapters import ADAPTERS

__all__ = ["PROTOCOLS"]

BLEU = (
    "Corpus BLEU-1 to BLEU-4 as pycocoevalcap counts it (clipped n-grams and brevity penalty of "
    "sums over all studies, tiny constants instead of smoothing), and BLEU-mean, their plain mean. "
)
EMPTY = " An empty prediction matches nothing and counts."
COCO = "pycocoevalcap 1.2; VLM3D-Dockers reportgen_evaluation"
JAVA = "Java 8 or later on the PATH or in JAVA_HOME"


def _info(
    name: str, about: str, source: str, needs: str = "", default: bool = True
) -> ProtocolInfo:
    return ProtocolInfo(
        name=name, task="report", about=about, source=source, needs=needs, default=default
    )


PROTOCOLS: tuple[ProtocolInfo, ...] = (
    _info(
        "bleu@vlm3d",
        BLEU + "Cleaning of the VLM3D challenge: newline, double quote, underscore and "
        "<|eot_id|> are deleted, ' . ' becomes '.'. Tokens are split at white space: case counts "
        "and punctuation sticks to words." + EMPTY,
        COCO,
    ),
    _info(
        "bleu@authors",
        BLEU + "Cleaning of the U-VLM authors' code: newlines become spaces, double quotes go, "
        "spaces collapse, and every full stop is followed by one space, so that '1.5 cm' becomes "
        "'1. 5 cm' and gives more tokens that match. The authors leave out studies without "
        "prediction; here they count." + EMPTY,
        "yinghemedical/U-VLM uvlm/evaluation/metrics/nlg.py",
    ),
    _info(
        "bleu@ptb",
        BLEU + "Tokens of the Penn Treebank tokeniser as in COCO caption evaluation: lower case, "
        "punctuation removed, brackets kept. No other cleaning." + EMPTY,
        "pycocoevalcap 1.2 tokenizer/ptbtokenizer.py (Stanford CoreNLP 3.4.1)",
        JAVA,
    ),
    _info(
        "rouge_l",
        "Longest common subsequence of words in order, as F with beta 1.2 (recall weighs more), "
        "mean over studies. Cleaning of VLM3D, tokens between single spaces. An empty prediction "
        "scores 0.",
        COCO,
    ),
    _info(
        "rouge@google",
        "F1 of ROUGE-1, ROUGE-2 and ROUGE-L, mean over studies; lower case, only letters a to z "
        "and digits, no stemming: text in another script has no token and scores 0. An empty "
        "prediction scores 0.",
        "google-research rouge-score 0.1.2, as RadEval and Hugging Face evaluate call it",
    ),
    _info(
        "cider",
        "CIDEr-D: cosine of vectors of 1- to 4-grams weighed by how rare they are among the "
        "reference reports, with a penalty for another length, times 10, mean over studies. "
        "Cleaning and tokens as bleu@vlm3d. The document frequencies are those of all reference "
        "reports, in resamples too. It depends on the set of references: two sets do not compare, "
        "and a single study scores 0. An empty prediction scores 0.",
        COCO,
    ),
    _info(
        "meteor@java",
        "METEOR 1.5: words aligned by form, stem, synonym and paraphrase; one score of the counts "
        "summed over all studies, as pycocoevalcap gives it. Cleaning of VLM3D, then its own "
        "normalisation (lower case, punctuation apart). "
        "English only: other languages match by form. Words after a report's "
        "1,500th are not aligned and count as unmatched." + EMPTY,
        "Denkowski and Lavie 2014; meteor-1.5.jar of pycocoevalcap 1.2",
        JAVA,
    ),
    _info(
        "meteor@nltk-no-synonyms",
        "METEOR by NLTK with words and stems but without WordNet, which is not shipped; mean over "
        "studies. Not comparable with meteor@java; HSENet's is this with synonyms. Lower case, "
        "words and signs as tokens. An empty prediction scores 0.",
        "nltk.translate.meteor_score (Lavie and Agarwal 2007)",
        default=False,
    ),
    _info(
        "ngram_precision@hsenet",
        "What HSENet prints as BLEU-1 to BLEU-4 and is not BLEU: the share of each study's 1- to "
        "4-grams that its reference holds, averaged over studies; no brevity penalty, no geometric "
        "mean, so that cutting reports short raises it. Never compare it with BLEU. Tokens of "
        "mteval-v13a, case kept. An empty prediction, at which HSENet's code stops, scores 0.",
        "YanzhaoShi/HSENet eval_HSENet_CT_Rate_MRG.py, lines 439-443; Hugging Face evaluate bleu",
    ),
    _info(
        "sacrebleu",
        "Corpus BLEU of sacreBLEU with its defaults: tokens of mteval-v13a, case kept, exponential "
        "smoothing. From 0 to 1: sacreBLEU itself prints percent." + EMPTY,
        "Post 2018; sacrebleu 2",
    ),
    *(
        _info(name, adapter.about, adapter.source, f"{adapter.package}; --weights {name}=FOLDER")
        for name, adapter in ADAPTERS.items()
    ),
)
