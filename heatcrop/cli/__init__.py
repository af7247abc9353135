"""The top floor: configuration, commands, and the walk through the stages."""
