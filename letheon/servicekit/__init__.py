"""What every process of Letheon needs; knows no rule of the federation."""
