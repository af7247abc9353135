"""Read configurations and run the commands of the command line."""
