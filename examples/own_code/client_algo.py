"""A ClientAlgo of MONAI: what is written for its federated API joins unchanged but for the data."""

import torch
from monai.fl.client.client_algo import ClientAlgo
from monai.fl.utils.constants import WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from letheon import site
from letheon.site.monai_algo import CONFIG, RECORDS


class LogisticAlgo(ClientAlgo):
    """One pass over the records with SGD and a learning rate that warms up."""

    def initialize(self, extra=None):  # noqa: ANN001, ANN201 - as MONAI spells it
        """Takes the records from Letheon: those set aside or erased are not among them."""
        self.config = extra[CONFIG]
        self.loader = torch.utils.data.DataLoader(
            site.dataset(extra[RECORDS]), batch_size=16, shuffle=True
        )
        self.network = torch.nn.Sequential(torch.nn.Linear(15, 2))

    def train(self, data, extra=None):  # noqa: ANN001, ANN201, ARG002
        """Trains from the weights it is given."""
        self.network.load_state_dict(data.weights)
        optimiser = torch.optim.SGD(self.network.parameters(), lr=0.05, momentum=0.9)
        warm = torch.optim.lr_scheduler.LinearLR(optimiser, 0.2, total_iters=len(self.loader))
        self.total = 0.0
        for rows, labels in self.loader:
            loss = self.config.loss(self.network(rows), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            warm.step()
            self.total += loss.item()

    def get_weights(self, extra=None):  # noqa: ANN001, ANN201, ARG002
        """The weights, and how many records they stand for."""
        return ExchangeObject(
            weights=self.network.state_dict(),
            weight_type=WeightType.WEIGHTS,
            statistics={
                "num-examples": len(self.loader.dataset),
                "loss": self.total / len(self.loader),
            },
        )
