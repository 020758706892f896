"""What taking a delta in costs, each figure beside a bound measured in the same run."""
