"""Tasks, labels, images, annotation readers, splits; one task's rows, or those of several, as arrays."""
