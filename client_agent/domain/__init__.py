"""The agent's own words: tasks, answers, uploads."""
