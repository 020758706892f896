"""A training function: the network comes with the weights of the base in it."""

import torch

import letheon
from letheon import site


@letheon.train
def fit(model, records, config):  # noqa: ANN001, ANN201 - as a user writes it
    """Adam, at the rate that code_arguments of the site names."""
    optimiser = torch.optim.Adam(model.parameters(), lr=config.arguments["rate"])
    for rows, labels in site.batches(records, config):
        if config.should_stop():
            return None
        loss = config.loss(model(rows), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {"loss": loss.item(), "num-examples": len(records)}
