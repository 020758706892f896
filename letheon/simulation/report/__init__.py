"""Results generated from the unit files of a study: numbers, bars, page and pictures."""
