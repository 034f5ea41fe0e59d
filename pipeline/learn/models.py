"""Models on disk: LightGBM's text format beside a JSON card with features, scores and checksums; never a pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, replace

from pipeline.core.errors import InputError
from pipeline.learn.fit import Model, checksum
from pipeline.store.location import Store


def save_models(store: Store, folder: str, models: Iterable[Model]) -> list[str]:
    """Write each model as ``<group>.txt`` and ``<group>.fold<k>.txt`` with its card ``<group>.json``; their paths.

    Parameters
    ----------
    folder : inside the store, for example ``products/<version>/models``.
    """
    paths = []
    for model in models:
        texts = {f"{model.group}.txt": model.text}
        texts |= {f"{model.group}.fold{k}.txt": text for k, text in enumerate(model.fold_texts)}
        for name, text in texts.items():
            store.write_bytes(text.encode(), folder, name)
        card = asdict(replace(model, text="", fold_texts=()))
        card["files"] = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
        store.write_json(card, folder, f"{model.group}.json")
        paths += [f"{folder}/{name}" for name in (*texts, f"{model.group}.json")]
    return paths


def load_model(store: Store, folder: str, group: str) -> Model:
    """Read a model back, checked against its card.

    Raises
    ------
    InputError : no such model, or a text that is not what the card says.
    """
    card = store.read_json(folder, f"{group}.json")
    if card is None:
        raise InputError(f"there is no model of {group!r} in {store.address(folder)}", f"{group}.json")
    files = card.pop("files")
    texts = {}
    for name, expected in files.items():
        raw = store.read_bytes(folder, name)
        seen = hashlib.sha256(raw).hexdigest()
        if seen != expected:
            raise InputError(
                f"{store.address(folder, name)} has SHA-256 {seen[:12]}", f"{expected[:12]}", "build again"
            )
        texts[name] = raw.decode()
    folds = tuple(texts[f"{group}.fold{k}.txt"] for k in range(len(texts) - 1))
    lists = {k: tuple(card[k]) for k in ("features", "magnitudes", "damping", "sigma_ln")}
    model = Model(**{**card, **lists, "text": texts[f"{group}.txt"], "fold_texts": folds})
    if model.sha256 != checksum(model.text, model.fold_texts):
        raise InputError(f"the card of {group!r} names SHA-256 {model.sha256[:12]}", "that of its texts", "build again")
    return model
