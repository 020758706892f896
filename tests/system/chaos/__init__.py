"""A federation of real processes, hurt at random, and one checker after every run.

python -m tests.system.chaos --faults 200 --seed 7
"""
