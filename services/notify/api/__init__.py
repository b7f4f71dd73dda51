"""HTTP out, a module for each thing that is shown."""
