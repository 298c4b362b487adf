"""Metrics that need a trained model, from weights in a local folder; skipped where absent."""

from __future__ import annotations

from collections.abc import Mapping

from uvlm.evaluation.words.adapters.adapter import Adapter

__all__ = ["ADAPTERS"]

ADAPTERS: Mapping[str, Adapter] = {
    "bertscore": Adapter(
        module="bertscore",
        package="transformers",
        names=("P", "R", "F1"),
        about="BERTScore without idf and without rescaling: each token finds its most similar "
        "token of the other report, by cosine of contextual vectors; precision, recall and F1 "
        "averaged over studies. The layer is the one bert-score recommends for the architecture "
        "(RoBERTa-large: 17), else the last. Reports are cut at the model's longest input (512 "
        "tokens for most). An empty prediction scores 0.",
        source="Zhang et al. 2020; bert-score 0.3.13",
    ),
    "radgraph": Adapter(
        module="radgraph",
        package="radgraph",
        names=("simple", "partial", "complete"),
        about="RadGraph F1: entities and relations of both reports by RadGraph-XL; F1 of entities, "
        "of entities with their having relations, and of entities with full relations, averaged "
        "over studies. The folder holds `radgraph-xl/` as the package unpacks it; the tokeniser "
        "it names must be in the Hugging Face cache. An empty prediction scores 0.",
        source="Delbrouck et al. 2022 and 2024; radgraph 0.1.18, F1RadGraph(reward_level='all')",
    ),
    "ratescore": Adapter(
        module="ratescore",
        package="RaTEScore",
        names=("RaTEScore",),
        about="RaTEScore: medical entities of both reports, compared by embedding and type, "
        "averaged over studies. The folder holds the folders `RaTE-NER-Deberta` and "
        "`BioLORD-2023-C`. An empty prediction scores 0 here; the package itself gives 0.5 where "
        "a report has no entity.",
        source="Zhao et al. 2024; RaTEScore 0.6",
    ),
    "green": Adapter(
        module="green",
        package="green_score",
        names=("GREEN",),
        about="GREEN: a language model of 7 billion parameters counts matched findings and "
        "significant errors; matched / (matched + errors), averaged over studies. Trained on chest "
        "radiographs. Needs a GPU. An answer that cannot be read leaves its study out. An empty "
        "prediction scores 0.",
        source="Ostmeier et al. 2024; Stanford-AIMI/GREEN green_score",
    ),
    "ce_f1@radbert": Adapter(
        module="radbert",
        package="transformers",
        gives_measure=True,
        about="ce_f1@vlm3d-macro18 with the labels that CT-CLIP's RadBERT classifier gives to both "
        "reports: 18 classes, probability of at least 0.5, the first 512 tokens of a report. It "
        "measures the agreement of two runs of one labeller, not truth. An empty prediction has no "
        "label. The folder is as `uvlm.text.labelling.radbert` says.",
        source="CT-CLIP text_classifier; VLM3D-Dockers reportgen_evaluation",
    ),
}
"""By protocol."""
