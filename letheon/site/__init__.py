"""A site's own training code: how an existing PyTorch or MONAI script joins a federation.

Two forms; an agent runs either in its training process, once a task (`[training] code`):

    from letheon import site                      import letheon

    given = site.receive()                        @letheon.train
    model = MyNetwork()                           def train(model, records, config):
    model.load_state_dict(given.state_dict)           fit(model, records, seed=config.seed)
    fit(model, given.records)                         return {"num-examples": len(records)}
    site.send(model.state_dict())

A `monai.fl.client.ClientAlgo` joins too (`letheon.site.monai_algo`). The code gives weights and
numbers, never a delta: Letheon takes the difference to the base itself, after checking every
tensor. docs/training-code.md says what code must keep to so that a training can be repeated.
"""

from letheon.site.batches import batches, dataset
from letheon.site.handover import Received, receive, send, should_stop, train
from letheon.site.job import Config

__all__ = ["Config", "Received", "batches", "dataset", "receive", "send", "should_stop", "train"]
