"""Where records come from, one data source a file."""
