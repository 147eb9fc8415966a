"""A model whose answer a test chooses: it finds the objects that its input image shows. And a trainer that is quiet."""

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader

from karyon.batch import Sample, collate
from karyon.instances import Instances, Prediction

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


def sample(name, pred, source=None, truth=None, image_type=""):
    """A sample of which the model will predict the label image `pred`."""
    size = pred.shape
    return Sample(
        name=name,
        image=torch.from_numpy(pred[None].astype(np.float32)),
        size=size,
        image_type=image_type,
        source=np.zeros(size, np.uint8) if source is None else source,
        truth=torch.from_numpy((pred if truth is None else truth).astype(np.int64)),
    )


def loader(samples, batch_size=1, **kwargs):
    return DataLoader(samples, batch_size=batch_size, collate_fn=collate, **kwargs)


def scores(count):
    return 1 / np.arange(2.0, count + 2)


class EchoModel(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def predict_step(self, batch):
        labels = batch.image[:, 0].int().numpy()
        return [
            Prediction(name, size, None, Instances.from_labels(single, scores(single.max())))
            for name, size, single in zip(batch.names, batch.sizes, labels, strict=True)
        ]

    test_step = validation_step = predict_step

    def training_step(self, batch):
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return batch.to(device)


def make_trainer(folder=None, callbacks=None, image_type=lightning.Trainer, **kwargs):
    settings = {"accelerator": "cpu", "devices": 1, "callbacks": callbacks, "default_root_dir": folder}
    return image_type(**{**QUIET, **settings, **kwargs})
