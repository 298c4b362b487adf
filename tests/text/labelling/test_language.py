"""Only English reports are read."""

import pytest

from uvlm.text.labelling.language import is_english


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Emphysema.",
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
    ],
)
def test_other_languages(text):
    assert not is_english(text)
