"""The demo: five hospitals train, one withdraws, the model forgets it, and numbers show it."""
