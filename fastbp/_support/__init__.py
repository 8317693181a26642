"""What every wing stands on: checks of arguments, files, signals."""
