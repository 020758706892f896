"""An ordinary PyTorch script: three lines of it know of Letheon."""

import torch

from letheon import site

given = site.receive()

network = torch.nn.Sequential(torch.nn.Linear(15, 2))
network.load_state_dict(given.state_dict)
loader = torch.utils.data.DataLoader(site.dataset(given.records), batch_size=16, shuffle=True)
optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
total = 0.0
for rows, labels in loader:
    loss = torch.nn.functional.cross_entropy(network(rows), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    total += loss.item()

site.send(
    network.state_dict(), num_examples=len(given.records), metrics={"loss": total / len(loader)}
)
