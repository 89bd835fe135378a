"""Several processes at one job: started or joined, talking to one another, failing as one."""
