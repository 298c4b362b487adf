"""Only English reports are read."""

import pytest

from uvlm.text.labelling.language import is_english


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Emphysema.",
        "Cyst of 5 \u03bcm, \u00d8 4 \u2013 \u5de6.",
        "The lungs are clear.",
        "No pleural effusion. Status post de novo stent.",
        "Heart: normal. Lungs: emphysema in the left upper lobe.",
    ],
)
def test_english(text):
    assert is_english(text)


@pytest.mark.parametrize(
    "text",
    [
        "Kein Emphysem, keine Atelektase und kein Pleuraerguss.",
        "Pas de pneumothorax ni de consolidation dans les deux poumons.",
        "Sin derrame pleural; el mediastino es normal.",
        "Plevral efüzyon saptanmadı. Her iki akciğer doğaldır.",
        "\u53cc\u80ba\u672a\u89c1\u5f02\u5e38 (CT).",
        "\u041f\u043b\u0435\u0432\u0440\u0430 \u0447\u0438\u0441\u0442\u0430\u044f.",
    ],
)
def test_other_languages(text):
    assert not is_english(text)


@pytest.mark.parametrize(
    "text",
    ["Coronary stents (DES). Cardiomegaly.", "Emphysema. LES hiatal hernia.", "SOL spleen."],
)
def test_abbreviations_are_of_no_language(text):
    assert is_english(text)


@pytest.mark.parametrize("text", ["KEIN EMPHYSEM.", "Kein Emphysem."])
def test_capitals_do_not_hide_another_language(text):
    assert not is_english(text)
