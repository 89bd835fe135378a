"""Jobs of several processes: launching, communication and shared failure."""
