"""Weight files of both engines: read and written with numpy alone, and downloaded."""
