"""Long tests: crashes, full disks, fuzzing, and environments with other packages."""
