"""Long proofs: kill a run at many random moments, feed the readers many thousand rubbish inputs."""
