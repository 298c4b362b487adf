"""nnU-Net is told of the normalisation that the volumes have."""

import pytest

from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.preprocessing.nnunet_plans import Case, dataset_of, plans_of

SCHEMES = {
    "zscore": "ZScoreNormalization",
    "minmax": "RescaleTo01Normalization",
    "none": "NoNormalization",
}
CASE = Case(series_id="a", shape=(32, 64, 64), spacing=(1.0, 1.0, 1.0), foreground=(1, 2, 3))


@pytest.mark.parametrize("normalise", SCHEMES)
def test_every_normalisation_has_its_scheme(normalise):
    spec = PreprocessSpec(shape=CASE.shape, normalise=normalise)
    plans = plans_of("Dataset001_A", [CASE], spec)["configurations"]
    found = {tuple(plan["normalization_schemes"]) for plan in plans.values() if plan}
    assert found == {(SCHEMES[normalise],)}


@pytest.mark.parametrize("normalise", SCHEMES)
def test_stock_nnunet_knows_it_by_the_name_of_the_channel(normalise):
    module = "nnunetv2.preprocessing.normalization.map_channel_name_to_normalization"
    names = pytest.importorskip(module)
    described = dataset_of({"lung": 1}, PreprocessSpec(normalise=normalise), 1)
    scheme = names.get_normalization_scheme(described["channel_names"]["0"])
    assert scheme.__name__ == SCHEMES[normalise]
