import numpy as np
import pytest

from pipeline.core.errors import InputError
from pipeline.learn.distribute import learn_fields
from pipeline.learn.fit import LearnSettings, predict_log
from pipeline.learn.models import load_model, save_models
from pipeline.store.location import Store


@pytest.fixture(scope="module")
def models(toy):
    return learn_fields(toy.posterior, toy.features, toy.domain, LearnSettings(trees=10, folds=2)).models


def test_models_come_back_as_they_were(models, tmp_path):
    store = Store(str(tmp_path))
    paths = save_models(store, "models", models)
    assert all(store.exists(p) for p in paths)
    assert not any(p.endswith((".pkl", ".pickle", ".joblib")) for p in paths)
    for model in models:
        again = load_model(store, "models", model.group)
        assert again == model
        rows = np.random.default_rng(0).random((5, len(model.features))).astype(np.float32)
        np.testing.assert_array_equal(predict_log(again.text, rows), predict_log(model.text, rows))


def test_a_model_that_was_changed_is_refused(models, tmp_path):
    store = Store(str(tmp_path))
    save_models(store, "models", models)
    store.write_bytes(models[0].text.replace("leaf_value", "leaf_valuf").encode(), "models", "east.txt")
    with pytest.raises(InputError, match=r"east.txt has SHA-256 .*build again"):
        load_model(store, "models", "east")


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no model of 'west'"):
        load_model(Store(str(tmp_path)), "models", "west")
