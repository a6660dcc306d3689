"""Reading the database of the Go ChatAPI v0.1 (`source`), and taking over what is in it, in the order of `importer`."""
