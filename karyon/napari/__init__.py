"""Karyon in napari: segment a layer, correct the doubtful objects, retrain, segment again; see docs/napari.md."""
